"""What an engine did, request by request: recorded, laid out on a timeline, written, checked and drawn.

``trace`` is what ``engine.trace()`` gives, ``timeline`` a Chrome trace of it.
May import: errors, config, the core.
"""

from paddleinfer.tracing.records import TracedRequest, TracedRun
from paddleinfer.tracing.timeline import Activity, chrome_trace
from paddleinfer.tracing.trace import Trace
from paddleinfer.tracing.validate import check

__all__ = ["Activity", "Trace", "TracedRequest", "TracedRun", "check", "chrome_trace"]
