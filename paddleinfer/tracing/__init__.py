"""Records what an engine does, request by request, and writes, checks and draws it as a timeline.

``trace`` is what ``engine.trace()`` returns, and ``timeline`` makes a Chrome trace of it.
May import: errors, config, the core.
"""

from paddleinfer.tracing.records import TracedRequest, TracedRun
from paddleinfer.tracing.timeline import Activity, chrome_trace
from paddleinfer.tracing.trace import Trace
from paddleinfer.tracing.validate import check

__all__ = ["Activity", "Trace", "TracedRequest", "TracedRun", "check", "chrome_trace"]
