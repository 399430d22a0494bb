//! A vendor's credential with placeholders.
//!
//! Owns: [`Template`], its placeholders and how it is filled; [`TokenShape`].
//! Must not know: which upstream it is for, where labels come from.

use rand::{Rng, RngExt};

use super::secret::Secret;
use super::time::Ttl;

/// How a session token is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenShape {
    /// Characters.
    pub length: u8,
    /// Digits alone, rather than lower-case letters and digits.
    pub digits: bool,
}

impl TokenShape {
    /// A fresh token.
    pub fn draw(self, rng: &mut impl Rng) -> String {
        const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let range = if self.digits { 10 } else { ALPHABET.len() };
        (0..self.length).map(|_| char::from(ALPHABET[rng.random_range(0..range)])).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Secret),
    Session(TokenShape),
    /// The ttl in units of so many seconds, rounded up.
    Ttl(u32),
    Label(&'static str),
}

/// Text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// Why a template was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder that does not exist.
    #[error(
        "unknown placeholder {{{0}}}: use {{session}}, {{ttl_minutes}}, {{ttl_seconds}}, {{ttl_hours}} or a label such as {{country}}"
    )]
    Unknown(String),
    /// A `{` without its `}`.
    #[error("a {{ has no matching }}")]
    Unclosed,
    /// `{session:…}` with something else than a length of 1 to 64 and `d`.
    #[error("{{session:{0}}}: write a length of 1 to 64, with a d behind it for digits alone")]
    Shape(String),
    /// Two `{session}` of different shape: one token fills both.
    #[error("{{session}} stands twice with different lengths; one token fills both")]
    TwoShapes,
    /// A `%` that is no percent-encoding, or an encoding of something else
    /// than UTF-8.
    #[error("a % is not followed by two hexadecimal digits that make UTF-8; write %25 for a percent sign")]
    Encoding,
}

/// What fills a template.
pub struct Filling<'a> {
    /// The pin's token, or the request's.
    pub token: &'a str,
    /// How long the session lasts.
    pub ttl: Ttl,
    /// The value of a label: what the client asked for, or the exit has.
    pub label: &'a dyn Fn(&'static str) -> Option<String>,
}

impl Template {
    /// Reads placeholders in braces; all else is literal.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_with(text, |literal| Some(Secret::new(literal)))
    }

    /// The same from a URL's user or password: what is not a placeholder is
    /// percent-decoded, so that `%7B` is a brace that stands for itself.
    pub fn parse_encoded(text: &str) -> Result<Self, TemplateError> {
        Self::parse_with(text, decoded)
    }

    fn parse_with(text: &str, literal: fn(&str) -> Option<Secret>) -> Result<Self, TemplateError> {
        let literal = |text| literal(text).map(Part::Literal).ok_or(TemplateError::Encoding);
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or(TemplateError::Unclosed)? + open;
            if open > 0 {
                parts.push(literal(&rest[..open])?);
            }
            parts.push(placeholder(&rest[open + 1..close])?);
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(literal(rest)?);
        }
        let made = Self(parts);
        let mut shapes = made.shapes();
        let first = shapes.next();
        if shapes.any(|shape| Some(shape) != first) {
            return Err(TemplateError::TwoShapes);
        }
        drop(shapes);
        Ok(made)
    }

    /// Text that stands for itself, braces and all.
    pub fn literal(text: &str) -> Self {
        Self(vec![Part::Literal(Secret::new(text))])
    }

    fn shapes(&self) -> impl Iterator<Item = TokenShape> {
        self.0.iter().filter_map(|part| match part {
            Part::Session(shape) => Some(*shape),
            _ => None,
        })
    }

    /// The shape of its token, where it has `{session}`.
    pub fn token_shape(&self) -> Option<TokenShape> {
        self.shapes().next()
    }

    /// Whether it has any placeholder.
    pub fn has_placeholders(&self) -> bool {
        self.0.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    /// Whether it has a placeholder for this label.
    pub fn asks_for(&self, key: &str) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Label(label) if *label == key))
    }

    /// The text. A label that nobody gives is empty.
    pub fn fill(&self, with: &Filling<'_>) -> Secret {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal.expose()),
                Part::Session(_) => text.push_str(with.token),
                Part::Ttl(unit) => text.push_str(&with.ttl.as_secs().div_ceil(*unit).to_string()),
                Part::Label(key) => text.push_str(&(with.label)(key).unwrap_or_default()),
            }
        }
        Secret::new(text)
    }
}

/// Percent-decoded; `None` where that is not possible.
fn decoded(text: &str) -> Option<Secret> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok().map(Secret::new)
}

fn placeholder(name: &str) -> Result<Part, TemplateError> {
    let (name, shape) = name.split_once(':').map_or((name, None), |(name, shape)| (name, Some(shape)));
    let unknown = || TemplateError::Unknown(name.chars().take(32).collect());
    match (name, shape) {
        ("session", None) => Ok(Part::Session(TokenShape { length: 8, digits: false })),
        ("session", Some(shape)) => token_shape(shape).map(Part::Session),
        (_, Some(_)) => Err(unknown()),
        ("ttl_seconds", None) => Ok(Part::Ttl(1)),
        ("ttl_minutes", None) => Ok(Part::Ttl(60)),
        ("ttl_hours", None) => Ok(Part::Ttl(3600)),
        _ => super::session::LABEL_KEYS
            .into_iter()
            .find(|key| *key == name)
            .map(Part::Label)
            .ok_or_else(unknown),
    }
}

fn token_shape(text: &str) -> Result<TokenShape, TemplateError> {
    let (length, digits) = text.strip_suffix('d').map_or((text, false), |length| (length, true));
    match length.parse::<u8>() {
        Ok(length @ 1..=64) => Ok(TokenShape { length, digits }),
        _ => Err(TemplateError::Shape(text.chars().take(16).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str) -> String {
        let label = |key: &'static str| (key == "country").then(|| "us".to_owned());
        let ttl = Ttl::from_secs(90).unwrap();
        let filling = Filling { token: "abc12345", ttl, label: &label };
        Template::parse(template).unwrap().fill(&filling).expose().to_owned()
    }

    #[test]
    fn placeholders_are_filled() {
        assert_eq!(
            fill("customer-me-cc-{country}-sessid-{session}-sesstime-{ttl_minutes}"),
            "customer-me-cc-us-sessid-abc12345-sesstime-2"
        );
        assert_eq!(fill("{ttl_seconds}/{ttl_hours}/{city}"), "90/1/");
        assert_eq!(fill("plain"), "plain");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert!(matches!(Template::parse("{sesion}"), Err(TemplateError::Unknown(_))));
        assert!(matches!(Template::parse("{session"), Err(TemplateError::Unclosed)));
        assert!(matches!(Template::parse("{session:0}"), Err(TemplateError::Shape(_))));
        assert!(matches!(Template::parse("{session:65}"), Err(TemplateError::Shape(_))));
        assert!(matches!(Template::parse("{session}{session:9}"), Err(TemplateError::TwoShapes)));
    }

    #[test]
    fn a_url_is_decoded_around_its_placeholders() {
        let label = |_: &'static str| None;
        let filling = Filling { token: "t", ttl: Ttl::MIN, label: &label };
        let fill =
            |text: &str| Template::parse_encoded(text).map(|made| made.fill(&filling).expose().to_owned());
        assert_eq!(fill("a%40b-{session}%3a"), Ok("a@b-t:".to_owned()));
        assert_eq!(fill("%7Bsession%7D"), Ok("{session}".to_owned()));
        assert_eq!(fill("%C3%A9"), Ok("\u{e9}".to_owned()));
        for text in ["%", "%4", "%zz", "100%", "%ff", "%+1"] {
            assert_eq!(fill(text), Err(TemplateError::Encoding), "{text}");
        }
    }

    #[test]
    fn tokens_have_their_shape() {
        let mut rng = rand::rng();
        let shape = Template::parse("x{session:8d}").unwrap().token_shape().unwrap();
        let token = shape.draw(&mut rng);
        assert_eq!(token.len(), 8);
        assert!(token.bytes().all(|b| b.is_ascii_digit()));
    }
}
