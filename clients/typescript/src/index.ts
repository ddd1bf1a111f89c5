import type { Messages } from "./generated/messages.ts";

export { CallNotVerified, type VerifiedCall, verifyCall } from "./calls.ts";
export { createSwitchboard, unwrap } from "./client.ts";
export type { Connection } from "./connection.ts";
export { type Change, FeedEnded, follow, type FollowOptions, type SwitchboardEvent } from "./feed.ts";
export type { Messages, MessageSchemas } from "./generated/messages.ts";
export type { components, operations, paths } from "./generated/openapi.ts";
export type { ProblemName } from "./generated/problem-names.ts";
export { type Problem, ProblemError } from "./problems.ts";

/** What may be sent to the topic of commands, or proposed. */
export type SwitchboardCommand = Messages["commands"][keyof Messages["commands"]];
