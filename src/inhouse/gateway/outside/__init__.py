"""The gateway seen from outside: metrics, logs, traces, the page of its administrators."""
