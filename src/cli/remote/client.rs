//! Requests to the admin API.
//!
//! Owns: the connection, its time limits, and what becomes of an answer that
//! is none.
//! Must not know: which requests there are.

use std::fmt::{self, Write as _};
use std::io;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Place;
use crate::cli::table::clean;
use crate::core::secret::Secret;

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take. A reload reads every file.
const ANSWER: Duration = Duration::from_secs(30);

/// The largest answer.
const MOST: usize = 64 << 20;

/// Asks one gateway. A connection is kept from one request to the next.
pub(crate) struct Client {
    place: Place,
    token: Option<Secret>,
    open: Option<SendRequest<Body>>,
}

/// Why there is no answer to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error(
        "no gateway answers at http://{at}: {why}. Start one with `moorgate run`, or say where it is: --admin HOST:PORT or --config FILE"
    )]
    Unreachable { at: String, why: io::Error },
    #[error("the gateway at http://{at} gave no answer within {} s", within.as_secs())]
    Late { at: String, within: Duration },
    #[error("the connection to http://{at} broke off: {why}")]
    Broken { at: String, why: String },
    #[error("what answers at http://{at} is no admin listener of Moorgate ({why}): say --admin HOST:PORT")]
    Strange { at: String, why: String },
    #[error("{0}")]
    Problem(Problem),
}

/// What the gateway says of a request that it did not do (RFC 9457).
#[derive(Debug)]
pub(crate) struct Problem(pub(crate) Value);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |key: &str| self.0[key].as_str().map(clean).unwrap_or_default();
        write!(f, "{}: {}", text("title"), text("detail"))?;
        for finding in self.0["findings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            write!(f, "\n  {}", clean(finding))?;
        }
        if self.0["status"] == 401 {
            f.write_str(
                "\n  the token is read from --token-file FILE, MOORGATE_ADMIN_TOKEN or --config FILE",
            )?;
        }
        Ok(())
    }
}

impl Client {
    pub(super) fn new(place: Place, token: Option<Secret>) -> Self {
        Self { place, token, open: None }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Another connection to the same gateway.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.place.clone(), self.token.clone())
    }

    #[cfg(test)]
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(Secret::expose)
    }

    /// Looks at a path.
    ///
    /// # Errors
    /// No answer, or a problem.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Value, Unanswered> {
        let reused = self.open.is_some();
        match self.json(Method::GET, path, None).await {
            // The gateway closes what is idle; looking twice does no harm.
            Err(Unanswered::Broken { .. }) if reused => self.json(Method::GET, path, None).await,
            answer => answer,
        }
    }

    /// Does something, once.
    ///
    /// # Errors
    /// No answer (it may be done all the same), or a problem (it is not).
    pub(crate) async fn tell(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Unanswered> {
        // A connection that was idle may be gone without our knowing.
        self.open = None;
        self.json(method, path, body).await
    }

    /// Follows a stream of events.
    ///
    /// # Errors
    /// No answer, or a problem.
    pub(crate) async fn follow(&mut self, path: &str) -> Result<Body, Unanswered> {
        Ok(self.send(Method::GET, path, None, "text/event-stream").await?.into_body())
    }

    async fn json(&mut self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Unanswered> {
        let response = self.send(method, path, body, "application/json").await?;
        let body = self.body(response.into_body()).await?;
        serde_json::from_slice(&body).map_err(|_| self.strange("its answer is not JSON"))
    }

    /// An answer that is no problem.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
        accept: &'static str,
    ) -> Result<Response<Body>, Unanswered> {
        let request = self.request(method, path, body, accept)?;
        let mut open = match self.open.take().filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => self.connect().await?,
        };
        let answer = timeout(ANSWER, async {
            open.ready().await?;
            open.send_request(request).await
        });
        let answer = answer.await.map_err(|_| self.late(ANSWER))?;
        let response = answer.map_err(|error| match error.is_parse() {
            true => self.strange("it does not speak HTTP"),
            false => self.broken(&error),
        })?;
        self.open = Some(open);
        let response = response.map(Body::new);
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(self.problem(status, response).await),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        accept: &'static str,
    ) -> Result<Request<Body>, Unanswered> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.place.authority())
            .header(ACCEPT, accept);
        if let Some(token) = &self.token {
            let field = format!("Bearer {}", token.expose());
            let mut field = HeaderValue::from_str(&field).map_err(|_| self.strange("no such token"))?;
            field.set_sensitive(true);
            request = request.header(AUTHORIZATION, field);
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
        };
        request.body(body).map_err(|error| self.broken(&error))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Unanswered> {
        let Place { host, port } = &self.place;
        let stream = timeout(CONNECT, TcpStream::connect((host.as_str(), *port))).await;
        let stream = stream.map_err(|_| self.late(CONNECT))?;
        let unreachable = |why| Unanswered::Unreachable { at: self.place.authority(), why };
        let stream = stream.map_err(unreachable)?;
        let (open, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // What it fails by is told to the request on it.
        tokio::spawn(connection);
        Ok(open)
    }

    async fn problem(&self, status: StatusCode, response: Response<Body>) -> Unanswered {
        let body = match self.body(response.into_body()).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<Value>(&body) {
            Ok(problem) if problem["title"].is_string() => Unanswered::Problem(Problem(problem)),
            _ => self.strange(&format!("it answers {status}")),
        }
    }

    async fn body(&self, body: Body) -> Result<bytes::Bytes, Unanswered> {
        let read = timeout(ANSWER, to_bytes(body, MOST)).await.map_err(|_| self.late(ANSWER))?;
        read.map_err(|error| self.broken(&error))
    }

    fn late(&self, within: Duration) -> Unanswered {
        Unanswered::Late { at: self.place.authority(), within }
    }

    fn broken(&self, why: &dyn fmt::Display) -> Unanswered {
        Unanswered::Broken { at: self.place.authority(), why: why.to_string() }
    }

    fn strange(&self, why: &str) -> Unanswered {
        Unanswered::Strange { at: self.place.authority(), why: why.to_owned() }
    }
}

/// A text as a part of a path or of a query (RFC 3986, section 2).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_text_survives_a_path() {
        assert_eq!(encode("ams-1_x.y~Z"), "ams-1_x.y~Z");
        assert_eq!(encode("2001:db8::/64 ?#%&é\n"), "2001%3Adb8%3A%3A%2F64%20%3F%23%25%26%C3%A9%0A");
    }

    #[test]
    fn a_problem_says_what_to_change() {
        let problem = Problem(json!({
            "title": "The files are wrong", "status": 422, "detail": "correct\u{1b}[2J them",
            "findings": ["p.json:1:2: no"],
        }));
        assert_eq!(problem.to_string(), "The files are wrong: correct\\u{1b}[2J them\n  p.json:1:2: no");
        let token = Problem(json!({ "title": "A token is needed", "status": 401, "detail": "send it" }));
        assert!(token.to_string().contains("--token-file"));
    }
}
