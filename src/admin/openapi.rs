//! `/openapi.json`.
//!
//! Owns: the description of the API, made of the code.
//! Must not know: what a request does.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::problem::Problem;
use super::{cooldowns, events, exits, metrics, pools, sessions, users};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Moorgate's operator API",
        description = "Sessions, exits, pools and users of a running gateway. Every failure is a problem \
                       document (RFC 9457) and has changed nothing.",
    ),
    paths(
        pools::list, pools::reload,
        exits::list, exits::one, exits::act,
        sessions::list, sessions::one, sessions::end, sessions::relocate, sessions::extend,
        cooldowns::list, users::list, events::stream, metrics::scrape,
    ),
    components(schemas(Problem)),
    modifiers(&Bearer),
    security(("token" = [])),
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| Api::openapi().to_json().unwrap_or_default());

/// The description.
pub(super) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}
