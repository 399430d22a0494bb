//! The dashboard at `/`.
//!
//! Owns: the page's files, which are part of the binary, and what a browser is
//! told about them: that they load nothing from elsewhere and are shown in no
//! frame.
//! Must not know: what the page shows; it asks the API like anybody else.

use axum::extract::Path;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};

use super::problem::not_found;

/// Scripts and styles are files of this listener; nothing else is loaded, and
/// no text can become either.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const JS: &str = "text/javascript; charset=utf-8";

/// Name, type and text of each file but the page itself.
const FILES: [(&str, &str, &str); 11] = [
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("main.js", JS, include_str!("page/main.js")),
    ("api.js", JS, include_str!("page/api.js")),
    ("codes.js", JS, include_str!("page/codes.js")),
    ("dom.js", JS, include_str!("page/dom.js")),
    ("plot.js", JS, include_str!("page/plot.js")),
    ("pools.js", JS, include_str!("page/pools.js")),
    ("sessions.js", JS, include_str!("page/sessions.js")),
    ("users.js", JS, include_str!("page/users.js")),
    ("events.js", JS, include_str!("page/events.js")),
];

/// The page.
pub(super) async fn index() -> Response {
    answer("text/html; charset=utf-8", include_str!("page/index.html"))
}

/// What the page loads.
pub(super) async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => answer(kind, text),
        None => not_found().await.into_response(),
    }
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (RESOURCE_POLICY, "same-origin"),
        // Files of two versions must not meet after an upgrade.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::code::Code;

    #[test]
    fn every_failure_code_has_its_advice() {
        let text = include_str!("page/codes.js");
        let lines = text.lines().filter(|line| line.starts_with("  ") && line.contains(": "));
        assert_eq!(lines.count(), Code::all().count(), "advice for a code that there is not");
        for code in Code::all() {
            assert_eq!(text.matches(&format!("\n  {code}: ")).count(), 1, "{code}");
        }
    }

    #[test]
    fn every_file_that_is_loaded_is_there() {
        let texts = FILES.iter().map(|(.., text)| *text).chain([include_str!("page/index.html")]);
        let mut loaded = 0;
        for text in texts {
            for opening in ["\"/page/", "from \"./"] {
                for (at, _) in text.match_indices(opening) {
                    let name = text[at + opening.len()..].split('"').next().unwrap();
                    assert!(FILES.iter().any(|(known, ..)| *known == name), "{name}");
                    loaded += 1;
                }
            }
            for away in ["http://", "https://", "\"//", "@import", " url("] {
                let namespace = "http://www.w3.org/2000/svg";
                assert!(!text.replace(namespace, "").contains(away), "{away} is loaded");
            }
            for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "style=", "onclick="]
            {
                assert!(!text.contains(unsafe_way), "{unsafe_way}");
            }
        }
        assert!(loaded > FILES.len(), "{loaded}");
    }
}
