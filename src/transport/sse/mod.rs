//! Server-sent events ([WHATWG HTML, section 9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html)).
