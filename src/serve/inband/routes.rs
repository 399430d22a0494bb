//! What can be asked.
//!
//! Owns: the routes, what each may be told, and which session is meant.
//! Must not know: how an act is done (`steer` does it, `route` pins), how an
//! answer is written.

use rand::RngExt;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::question::Question;
use super::reply::{Kind, Problem, Reply};
use super::views::{self, Cooldown, Made, Moved, NewSession, Report, Reported, Session};
use super::{Visit, refuse_other_ports};
use crate::core::ask::{Ask, AskedSession, AtHand, ask, judge};
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::core::pin::{ExitName, Variant};
use crate::core::pool::NameRef;
use crate::core::session::SessionId;
use crate::core::target::Target;
use crate::core::time::Timestamp;
use crate::core::username::{MAX_USERNAME, Parameters, parse};
use crate::observe::instruments::MoveReason;
use crate::serve::route::Route;
use crate::serve::seat;
use crate::serve::wish::{Bid, check_room};
use crate::state::Snapshot;
use crate::steer::reports;
use crate::steer::sessions::Order;

/// Each route, its methods, and what it does.
const ROUTES: [(&str, &str, &str); 7] = [
    ("/", "GET, HEAD", "what can be asked"),
    ("/session", "GET, HEAD, DELETE", "the session that the request names: shown, or ended"),
    ("/session/move", "POST", "moves it to another exit: {\"exit\"}, or {} for any"),
    ("/session/report", "POST", "its exit is no good for a target: {\"target\", \"reason\", \"exit\"}"),
    ("/sessions", "POST", "makes a session: {\"pool\", \"ttl\", \"idle\", \"labels\"}"),
    ("/pools", "GET, HEAD", "the pools that the user may use"),
    ("/usage", "GET, HEAD", "what the user uses, and may"),
];

/// So long is the id of a session that is made here.
const ID_LENGTH: usize = 16;
const ID_CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The longest reason that is taken.
const MOST_REASON: usize = 200;

/// Does what is asked.
pub(super) async fn answer(visit: &Visit<'_>, question: &Question) -> Result<Reply, Problem> {
    if question.foreign {
        return Err(Kind::OriginForbidden.into());
    }
    let route = ROUTES.iter().find(|(path, ..)| *path == question.path);
    let (path, allowed, _) = route.ok_or(Kind::NotFound)?;
    if !allowed.split(", ").any(|method| method == question.method) {
        return Err(Kind::MethodNotAllowed(allowed).into());
    }
    match (*path, &*question.method) {
        ("/session", "DELETE") => end(visit, question).await,
        ("/session", _) => show(visit, question).await,
        ("/session/move", _) => relocate(visit, question).await,
        ("/session/report", _) => report(visit, question).await,
        ("/sessions", _) => make(visit, question).await,
        ("/pools", _) => no_query(question).map(|()| Reply::json(200, &views::pools(visit))),
        ("/usage", _) => no_query(question).map(|()| Reply::json(200, &views::usage(visit))),
        _ => no_query(question).map(|()| {
            let route =
                |(path, methods, what): &(_, _, _)| json!({"path": path, "methods": methods, "does": what});
            Reply::json(
                200,
                &json!({"gateway": "moorgate", "routes": ROUTES.iter().map(route).collect::<Vec<_>>()}),
            )
        }),
    }
}

async fn show(visit: &Visit<'_>, question: &Question) -> Result<Reply, Problem> {
    let (_, session) = named(visit, question, query_target(question)?.as_ref())?;
    let pin = visit.shared.steering.session(session.key).await?;
    Ok(Reply::json(200, &Session::new(visit, &pin)))
}

async fn end(visit: &Visit<'_>, question: &Question) -> Result<Reply, Problem> {
    let (_, session) = named(visit, question, query_target(question)?.as_ref())?;
    let pin = visit.shared.steering.end(session.key).await?;
    Ok(Reply::json(200, &Session::new(visit, &pin)))
}

async fn relocate(visit: &Visit<'_>, question: &Question) -> Result<Reply, Problem> {
    let moved: Moved = body(question)?;
    let (_, session) = named(visit, question, query_target(question)?.as_ref())?;
    let order = Order { to: moved.exit.as_deref(), from: None, target: None, reason: MoveReason::Asked };
    let (pin, _) = visit.shared.steering.moved(session.key, order).await?;
    Ok(Reply::json(200, &Session::new(visit, &pin)))
}

/// Of a session, which moves; of a request without one, an exit is named.
async fn report(visit: &Visit<'_>, question: &Question) -> Result<Reply, Problem> {
    no_query(question)?;
    let told: Report = body(question)?;
    if told.reason.len() > MOST_REASON {
        let detail = format!("shorten the reason to {MOST_REASON} bytes");
        return Err(Problem::Own(Kind::BodyInvalid, detail.into()));
    }
    let target = target(&told.target)?;
    let report = reports::Report { target: &target, reason: &told.reason, exit: told.exit.as_deref() };
    let wanted = wanted(visit, question, Some(&target))?;
    let steering = &visit.shared.steering;
    let reply = |session, moved, exit: &ExitName, until: Option<Timestamp>| {
        let cooldown = until.map(|until| Cooldown::new(visit, exit, &target, until));
        Reply::json(200, &Reported { session, moved, cooldown })
    };
    if let Some(session) = &wanted.session {
        let outcome = steering.report(session.key, &report).await?;
        let shown = Session::new(visit, &outcome.pin);
        return Ok(reply(Some(shown), outcome.moved, &outcome.exit, outcome.until));
    }
    let Some(id) = &told.exit else {
        let detail = "name the session that met the exit, or the exit itself: \"exit\" is what follows the \
                      pool and its slash in Moorgate-Exit";
        return Err(Problem::Own(Kind::SessionRequired, detail.into()));
    };
    let exit = ExitName { pool: wanted.pool.name.clone(), id: id.as_str().into() };
    let variant = told.exit_address.map_or(Variant::None, Variant::Address);
    let until = steering.report_exit(&exit, &variant, &report)?;
    Ok(reply(None, false, &exit, until))
}

async fn make(visit: &Visit<'_>, question: &Question) -> Result<Reply, Problem> {
    no_query(question)?;
    let parameters = new_parameters(visit, question, body(question)?)?;
    let (shared, account) = (visit.shared, &visit.said.caller.account);
    judge(&parameters, account, &shared.settings.bounds)?;
    let snapshot = shared.state.snapshot();
    let ask = to_ask(visit, &snapshot, parameters.clone(), None)?;
    let session = ask.session.as_ref().ok_or(Kind::SessionRequired)?;
    let parameters = Parameters { pool: Some(NameRef::Exact((*ask.pool.name).into())), ..parameters };
    let username = username(&ask, &parameters)?;
    check_room(shared)?;
    seat::check(shared, &visit.admission, session.key).await?;
    let bid = Bid { ask: &ask, snapshot: &snapshot, held: None, admission: &visit.admission, target: None };
    let gone = || Fault::new(Code::NoExit, "the pool is being replaced");
    let leg = Route::new(shared, bid, session).ok_or_else(gone)?.first().await?;
    leg.claim.receipt.settled().await.map_err(Fault::from)?;
    let pin = &leg.claim.pin;
    Ok(Reply::json(201, &Made { username, session: Session::new(visit, pin) }))
}

/// What the body says, and what the client's own parameters say beyond it;
/// all but the session, which is a new one.
fn new_parameters(visit: &Visit<'_>, question: &Question, new: NewSession) -> Result<Parameters, Problem> {
    let grant = visit.said.caller.grant.as_ref().map(|grant| &grant.fixed);
    if grant.is_some_and(|fixed| fixed.session.is_some()) {
        return Err(Kind::SessionFixed.into());
    }
    let mut made = Parameters { session: Some(new_id()), ..Parameters::default() };
    for (name, text) in [("pool", new.pool), ("ttl", new.ttl), ("idle", new.idle)] {
        if let Some(text) = text {
            made.take_field(name, &text)?;
        }
    }
    for (name, value) in new.labels.unwrap_or_default() {
        // As one of a list in a field. Values are compared without anything
        // but letters and digits, and a name that ends early is none.
        let name = name.replace(['=', ','], " ");
        made.take_field("label", &format!("{name}={}", value.replace(',', " ")))?;
    }
    if let Some(fixed) = grant {
        let pool = fixed.pool.clone().map(NameRef::Exact);
        made = made.join(Parameters { pool, ttl: fixed.ttl, ..Parameters::default() })?;
    }
    let own = own_parameters(visit, question)?;
    // An exit and labels are of the pool that they were said with.
    let same_pool = made.pool.is_none() || made.pool == own.pool;
    made.ttl = made.ttl.or(own.ttl);
    made.idle = made.idle.or(own.idle);
    made.failover = own.failover;
    if same_pool {
        made.pool = made.pool.or(own.pool);
        made.exit = own.exit;
        for (key, value) in own.labels {
            if !made.labels.iter().any(|(known, _)| *known == key) {
                made.labels.push((key, value));
            }
        }
    }
    Ok(made)
}

#[expect(clippy::expect_used, reason = "invariant: 16 letters and digits are a session's id")]
fn new_id() -> SessionId {
    let mut rng = rand::rng();
    let one = |_| char::from(ID_CHARACTERS[rng.random_range(0..ID_CHARACTERS.len())]);
    let text: String = (0..ID_LENGTH).map(one).collect();
    SessionId::new(&text).expect("an id")
}

/// The username by which the session is used from now on. What it cannot say
/// is refused: under it, another session would be meant.
fn username(ask: &Ask, parameters: &Parameters) -> Result<String, Problem> {
    let tail = parameters.to_string();
    let username = format!("{}{tail}", ask.user);
    let read = parse(&tail).ok();
    let same = read.is_some_and(|read| {
        let labels = read.labels.iter().map(|(key, value)| (*key, &**value));
        crate::core::session::Filter::new(labels) == ask.filter && read.session == parameters.session
    });
    if same && username.len() <= MAX_USERNAME {
        return Ok(username);
    }
    let detail =
        "a username cannot hold these labels: write them in ASCII letters and digits, and fewer of them";
    Err(Fault::new(Code::ParameterInvalid, detail).into())
}

/// What the client's username and fields say, here and inside the tunnel.
fn own_parameters(visit: &Visit<'_>, question: &Question) -> Result<Parameters, Problem> {
    let mut own = visit.said.parameters.clone();
    if visit.said.by_listener && question.parameters.session.is_some() {
        own.session = None;
    }
    Ok(own.join(question.parameters.clone())?)
}

/// What is asked for by username and fields, as of any request to this
/// target.
fn wanted(visit: &Visit<'_>, question: &Question, target: Option<&Target>) -> Result<Ask, Problem> {
    let parameters = own_parameters(visit, question)?;
    judge(&parameters, &visit.said.caller.account, &visit.shared.settings.bounds)?;
    to_ask(visit, &visit.shared.state.snapshot(), parameters, target)
}

fn to_ask(
    visit: &Visit<'_>,
    snapshot: &Snapshot,
    parameters: Parameters,
    target: Option<&Target>,
) -> Result<Ask, Problem> {
    let at_hand = AtHand { client: visit.client.ip().to_canonical(), target };
    let (account, bounds) = (&visit.said.caller.account, &visit.shared.settings.bounds);
    Ok(ask(parameters, visit.defaults, account, snapshot.pools(), bounds, at_hand)?)
}

/// The session that is meant.
fn named(
    visit: &Visit<'_>,
    question: &Question,
    target: Option<&Target>,
) -> Result<(Ask, AskedSession), Problem> {
    let ask = wanted(visit, question, target)?;
    let session = ask.session.clone().ok_or(Kind::SessionRequired)?;
    Ok((ask, session))
}

/// `host`, `host:port`, or a URL.
fn target(text: &str) -> Result<Target, Problem> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let target = Target::parse_with_default(host, 443)?;
    refuse_other_ports(&target)?;
    Ok(target)
}

/// Sessions that are made of the target (`affinity`) are named by it.
fn query_target(question: &Question) -> Result<Option<Target>, Problem> {
    let Some(query) = question.query.as_deref().filter(|query| !query.is_empty()) else { return Ok(None) };
    match query.strip_prefix("target=") {
        Some(text) if !text.contains('&') => target(text).map(Some),
        _ => Err(Kind::QueryInvalid.into()),
    }
}

fn no_query(question: &Question) -> Result<(), Problem> {
    match question.query.as_deref() {
        None | Some("") => Ok(()),
        Some(_) => Err(Problem::Own(Kind::QueryInvalid, "leave the query out".into())),
    }
}

/// A JSON object; nothing is as good as an empty one. A page's form cannot
/// send one, not even as nothing.
fn body<T: DeserializeOwned>(question: &Question) -> Result<T, Problem> {
    let media =
        question.media.as_deref().map(|media| media.split(|byte| *byte == b';').next().unwrap_or(media));
    match media.map(<[u8]>::trim_ascii) {
        Some(media) if media.eq_ignore_ascii_case(b"application/json") => {}
        None if question.body.is_empty() => {}
        _ => return Err(Kind::BodyNotJson.into()),
    }
    let text = if question.body.is_empty() { &b"{}"[..] } else { &question.body };
    // Serde takes a list for an object, too.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(Kind::BodyInvalid.into());
    }
    serde_json::from_slice(text)
        .map_err(|error| Problem::Own(Kind::BodyInvalid, format!("correct the body: {error}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_target(text: &str, expected: Option<&str>) {
        assert_eq!(target(text).ok().map(|target| target.to_string()).as_deref(), expected, "{text}");
    }

    #[test]
    fn a_target_is_a_host_or_a_url() {
        check_target("shop.example", Some("shop.example:443"));
        check_target("Shop.example.:8080", Some("shop.example:8080"));
        check_target("https://u:p@shop.example:81/a?b@c#d", Some("shop.example:81"));
        check_target("http://[2001:db8::1]/", Some("[2001:db8::1]:443"));
        check_target("http://moorgate.internal/", None);
        check_target("", None);
        check_target("https://", None);
        check_target("a b", None);
    }

    #[track_caller]
    fn check_body(media: Option<&str>, text: &str, expected: Result<Option<&str>, Kind>) {
        let question = Question {
            media: media.map(|media| media.as_bytes().to_vec()),
            body: text.as_bytes().to_vec(),
            ..Question::default()
        };
        let got = body::<Moved>(&question).map(|moved| moved.exit).map_err(|problem| match problem {
            Problem::Own(kind, _) => kind,
            Problem::Fault(fault) => panic!("{fault}"),
        });
        assert_eq!(got, expected.map(|exit| exit.map(str::to_owned)), "{media:?} {text}");
    }

    #[test]
    fn a_body_is_a_json_object_or_nothing() {
        let json = Some("application/json");
        check_body(None, "", Ok(None));
        check_body(json, "", Ok(None));
        check_body(Some("Application/JSON; charset=utf-8"), r#"{"exit": "e1"}"#, Ok(Some("e1")));
        check_body(None, "{}", Err(Kind::BodyNotJson));
        check_body(Some("application/x-www-form-urlencoded"), "", Err(Kind::BodyNotJson));
        check_body(Some("text/plain"), "{}", Err(Kind::BodyNotJson));
        for wrong in ["[]", "{", "1", r#"{"other": 1}"#, r#"{"exit": 1}"#, "{} {}"] {
            check_body(json, wrong, Err(Kind::BodyInvalid));
        }
    }

    #[test]
    fn ids_are_names_of_sessions() {
        let id = new_id();
        assert!(id.as_str().len() == ID_LENGTH && new_id() != id);
        assert!(crate::core::username::session(id.as_str()).is_ok());
    }
}
