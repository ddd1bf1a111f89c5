{{- define "switchboard.labels" -}}
app.kubernetes.io/name: switchboard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{- define "switchboard.container" -}}
image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
env:
  {{- range $name, $value := .root.Values.settings }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  {{- if eq .service "gateway" }}
  - {name: SWITCHBOARD_HTTP_HOST, value: "0.0.0.0"}
  {{- end }}
envFrom:
  - secretRef: {name: {{ .root.Values.secret }}}
  {{- with index .root.Values.secretOf .service }}
  - secretRef: {name: {{ . }}}
  {{- end }}
{{- end }}

{{- define "switchboard.pod" -}}
automountServiceAccountToken: false
# Kubernetes would make variables of the names of services, which begin as ours do.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
volumes:
  - {name: tmp, emptyDir: {}}
{{- end }}
