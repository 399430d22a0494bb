//! `/openapi.json`.
//!
//! Owns: the description of the API, made of the code, and what every request
//! may be answered besides.
//! Must not know: what a request does.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::problem::Problem;
use super::{cooldowns, events, exits, health, metrics, pools, sessions, users};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Moorgate's operator API",
        description = "Sessions, exits, pools and users of a running gateway. Every failure is a problem \
                       document (RFC 9457) and has changed nothing.",
    ),
    paths(
        pools::list, pools::reload,
        exits::list::list, exits::one, exits::act,
        sessions::list, sessions::one, sessions::end, sessions::relocate, sessions::extend,
        cooldowns::list, users::list, events::stream, metrics::scrape, health::healthz, health::readyz,
    ),
    components(schemas(Problem)),
    modifiers(&Bearer, &Failures),
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

/// What the gate answers, and what reads bodies: no handler has a part in it.
struct Failures;

const OF_ALL: [(&str, &str); 2] = [
    ("401", "The token is missing or wrong"),
    ("403", "The Host is not a loopback one, or a page of another site asks"),
];

const OF_ACTS: [(&str, &str); 2] = [("413", "The body is too large"), ("415", "The body is not JSON")];

impl Modify for Failures {
    fn modify(&self, document: &mut Document) {
        for (name, path) in &mut document.paths.paths {
            path.get.iter_mut().for_each(|look| may_fail(look, &OF_ALL));
            for act in path.post.iter_mut().chain(&mut path.delete) {
                may_fail(act, &OF_ALL);
                may_fail(act, &OF_ACTS);
                // An `Option` of the type would say that the body may be `null`.
                if let Some(RefOr::T(body)) = &mut act.request_body
                    && name.ends_with("/move")
                {
                    body.required = Some(Required::False);
                }
            }
        }
    }
}

fn may_fail(operation: &mut Operation, failures: &[(&str, &str)]) {
    for (status, description) in failures {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        let answer = ResponseBuilder::new().description(*description);
        let answer = answer.content("application/problem+json", problem).build();
        operation.responses.responses.insert((*status).to_owned(), answer.into());
    }
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| Api::openapi().to_json().unwrap_or_default());

/// The description.
pub(super) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}
