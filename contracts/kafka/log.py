"""The one logger of the clients, ``switchboard_contracts``. It is silent until the program gives it a handler."""

import logging

log = logging.getLogger("switchboard_contracts")
log.addHandler(logging.NullHandler())
