//! Every failure that Moorgate answers with, in one table.
//!
//! Owns: the stable codes and all that hangs on a code: status, RFC 9209
//! type, SOCKS5 reply, title, whether the connection closes.
//! Must not know: how an answer is written, or why a code was chosen.

use std::fmt;

/// A stable failure code, as it stands in `Moorgate-Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table below says what each means")]
pub enum Code {
    BadRequest,
    NotAProxyRequest,
    UnsupportedScheme,
    BadTarget,
    ParameterUnknown,
    ParameterDuplicate,
    ParameterConflict,
    ParameterInvalid,
    SessionInvalid,
    TtlInvalid,
    TtlOutOfRange,
    IdleInvalid,
    TtlWithoutSession,
    FailoverInvalid,
    ExitUnknown,
    AuthRequired,
    AuthFailed,
    PoolForbidden,
    TargetForbidden,
    ClientForbidden,
    RequestTimeout,
    LoopDetected,
    RateLimited,
    TooManyConnections,
    TooManySessions,
    QuotaExceeded,
    AuthThrottled,
    HeadTooLarge,
    TargetRefused,
    TargetUnresolvable,
    TargetUnreachable,
    BadResponse,
    ExitFailed,
    ExitAuthFailed,
    ExitRefusedTarget,
    NoExit,
    ExitDown,
    StoreUnavailable,
    Draining,
    TargetTimeout,
    ExitTimeout,
}

struct Row {
    code: Code,
    name: &'static str,
    status: u16,
    proxy_status: &'static str,
    socks: u8,
    closes: bool,
    title: &'static str,
}

const fn row(
    code: Code,
    name: &'static str,
    status: u16,
    proxy_status: &'static str,
    socks: u8,
    title: &'static str,
) -> Row {
    Row { code, name, status, proxy_status, socks, closes: false, title }
}

const fn closing(mut row: Row) -> Row {
    row.closes = true;
    row
}

const REQUEST: &str = "http_request_error";
const DENIED: &str = "http_request_denied";
const EXIT: &str = "destination_unavailable";
const TIMEOUT: &str = "connection_timeout";

/// In the order of [`Code`]; a test holds the two together.
static TABLE: [Row; 41] = {
    use Code as C;
    [
        closing(row(C::BadRequest, "bad_request", 400, REQUEST, 1, "The request is malformed")),
        row(C::NotAProxyRequest, "not_a_proxy_request", 400, REQUEST, 1, "This is a proxy, not a web server"),
        row(
            C::UnsupportedScheme,
            "unsupported_scheme",
            400,
            REQUEST,
            1,
            "The URL's scheme is not http or ws",
        ),
        row(C::BadTarget, "bad_target", 400, REQUEST, 1, "The target is unreadable"),
        row(C::ParameterUnknown, "parameter_unknown", 400, REQUEST, 1, "Unknown parameter"),
        row(C::ParameterDuplicate, "parameter_duplicate", 400, REQUEST, 1, "Parameter given twice"),
        row(C::ParameterConflict, "parameter_conflict", 400, REQUEST, 1, "Parameters contradict each other"),
        row(C::ParameterInvalid, "parameter_invalid", 400, REQUEST, 1, "Parameter value is invalid"),
        row(C::SessionInvalid, "session_invalid", 400, REQUEST, 1, "The session id is invalid"),
        row(C::TtlInvalid, "ttl_invalid", 400, REQUEST, 1, "The ttl is not a duration"),
        row(C::TtlOutOfRange, "ttl_out_of_range", 400, REQUEST, 1, "The duration is out of bounds"),
        row(C::IdleInvalid, "idle_invalid", 400, REQUEST, 1, "The idle time is not a duration"),
        row(C::TtlWithoutSession, "ttl_without_session", 400, REQUEST, 1, "A ttl needs a session"),
        row(
            C::FailoverInvalid,
            "failover_invalid",
            400,
            REQUEST,
            1,
            "The failover is not on, off or address",
        ),
        row(C::ExitUnknown, "exit_unknown", 400, REQUEST, 1, "The pool has no such exit"),
        row(C::AuthRequired, "auth_required", 407, DENIED, 2, "Credentials are needed"),
        row(C::AuthFailed, "auth_failed", 407, DENIED, 2, "The credentials are wrong"),
        row(C::PoolForbidden, "pool_forbidden", 403, DENIED, 2, "The pool is not yours or does not exist"),
        row(C::TargetForbidden, "target_forbidden", 403, DENIED, 2, "The target is not allowed"),
        row(C::ClientForbidden, "client_forbidden", 403, DENIED, 2, "The client's address is not allowed"),
        closing(row(
            C::RequestTimeout,
            "request_timeout",
            408,
            REQUEST,
            1,
            "The request took too long to arrive",
        )),
        row(
            C::LoopDetected,
            "loop_detected",
            421,
            "proxy_loop_detected",
            2,
            "The request would come back here",
        ),
        row(C::RateLimited, "rate_limited", 429, DENIED, 2, "Too many requests"),
        row(C::TooManyConnections, "too_many_connections", 429, DENIED, 2, "Too many connections"),
        row(C::TooManySessions, "too_many_sessions", 429, DENIED, 2, "Too many sessions"),
        row(C::QuotaExceeded, "quota_exceeded", 429, DENIED, 2, "The quota is used up"),
        row(C::AuthThrottled, "auth_throttled", 429, DENIED, 2, "Too many wrong credentials"),
        closing(row(C::HeadTooLarge, "head_too_large", 431, REQUEST, 1, "The request head is too large")),
        row(
            C::TargetRefused,
            "target_refused",
            502,
            "connection_refused",
            5,
            "The target refused the connection",
        ),
        row(
            C::TargetUnresolvable,
            "target_unresolvable",
            502,
            "dns_error",
            4,
            "The target's name does not resolve",
        ),
        row(
            C::TargetUnreachable,
            "target_unreachable",
            502,
            "destination_ip_unroutable",
            3,
            "The target is unreachable",
        ),
        row(
            C::BadResponse,
            "bad_response",
            502,
            "http_protocol_error",
            4,
            "The target's answer is not usable",
        ),
        row(C::ExitFailed, "exit_failed", 502, EXIT, 4, "The exit could not be used"),
        row(
            C::ExitAuthFailed,
            "exit_auth_failed",
            502,
            "proxy_configuration_error",
            4,
            "The exit refused its credential",
        ),
        row(C::ExitRefusedTarget, "exit_refused_target", 502, EXIT, 4, "The exit refused the target"),
        row(C::NoExit, "no_exit", 503, EXIT, 3, "No exit is free"),
        row(C::ExitDown, "exit_down", 503, EXIT, 3, "The session's exit is down"),
        row(
            C::StoreUnavailable,
            "store_unavailable",
            503,
            "proxy_internal_error",
            3,
            "The pins cannot be kept",
        ),
        closing(row(
            C::Draining,
            "draining",
            503,
            "proxy_internal_response",
            3,
            "The gateway is shutting down",
        )),
        row(C::TargetTimeout, "target_timeout", 504, TIMEOUT, 4, "The target took too long"),
        row(C::ExitTimeout, "exit_timeout", 504, TIMEOUT, 4, "The exit took too long"),
    ]
};

impl Code {
    /// How many there are.
    pub const COUNT: usize = TABLE.len();

    /// Every code, in the table's order.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.code)
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The name in `Moorgate-Error`, logs and metrics.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// The RFC 9209 error type for `Proxy-Status`.
    pub fn proxy_status(self) -> &'static str {
        self.row().proxy_status
    }

    /// The RFC 1928 reply code.
    pub fn socks_reply(self) -> u8 {
        self.row().socks
    }

    /// Whether the client's connection closes after a plain request's answer;
    /// after a refused CONNECT it always does.
    pub fn closes(self) -> bool {
        self.row().closes
    }

    /// One short line for people: the problem document's title.
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// The standard reason phrase of the status.
    pub fn reason(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            403 => "Forbidden",
            407 => "Proxy Authentication Required",
            408 => "Request Timeout",
            421 => "Misdirected Request",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            _ => "Gateway Timeout",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_codes() {
        for (at, code) in Code::all().enumerate() {
            assert_eq!(code as usize, at, "{code}");
        }
    }

    #[test]
    fn names_are_unique_and_every_status_has_its_reason() {
        let names: std::collections::HashSet<_> = Code::all().map(Code::name).collect();
        assert_eq!(names.len(), TABLE.len());
        for code in Code::all() {
            assert_eq!(code.status() == 504, code.reason() == "Gateway Timeout", "{code}");
        }
    }
}
