//! The rows of `requests.txt` and `responses.txt`.
//!
//! Owns: how they are written.
//! Must not know: what is done with them.

/// A row.
pub struct Row {
    pub verdict: &'static str,
    pub name: &'static str,
    /// Escaped, with its placeholders.
    text: &'static str,
}

/// What the placeholders stand for.
pub struct Places<'a> {
    /// `host:port`.
    pub authority: &'a str,
    /// The credential's field, with its line end.
    pub auth: &'a str,
}

/// Requests and what becomes of them.
pub fn requests() -> Vec<Row> {
    rows(include_str!("requests.txt"))
}

/// Answers and what becomes of them.
pub fn responses() -> Vec<Row> {
    rows(include_str!("responses.txt"))
}

fn rows(text: &'static str) -> Vec<Row> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let row = |line: &'static str| {
        let mut parts = line.splitn(3, ' ');
        let mut next = || parts.next().unwrap_or_else(|| panic!("verdict, name, bytes: {line}"));
        Row { verdict: next(), name: next(), text: next() }
    };
    lines.map(row).collect()
}

impl Row {
    /// The bytes.
    pub fn bytes(&self, places: &Places<'_>) -> Vec<u8> {
        let Places { authority, auth } = places;
        let url = format!("http://{authority}/");
        let text = self
            .text
            .replace("{H}", "{P}Transfer-Encoding: chunked\\r\\n\\r\\n")
            .replace("{P}", "POST {url} HTTP/1.1\\r\\nHost: h\\r\\n{auth}")
            .replace("{P0}", "POST {url} HTTP/1.0\\r\\nHost: h\\r\\n{auth}")
            .replace("{G}", "GET {url} HTTP/1.1\\r\\nHost: h\\r\\n{auth}")
            .replace("{C}", "CONNECT {authority} HTTP/1.1\\r\\nHost: h\\r\\n{auth}")
            .replace("{url}", &url)
            .replace("{authority}", authority)
            .replace("{auth}", &auth.replace("\r\n", "\\r\\n"));
        unescape(&text)
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let mut next = || bytes.next().unwrap_or_else(|| panic!("an escape: {text}"));
        out.push(match next() {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'x' => {
                let digits = [next(), next()].map(char::from);
                let digit = |c: char| c.to_digit(16).unwrap_or_else(|| panic!("a digit: {text}"));
                (digit(digits[0]) * 16 + digit(digits[1])) as u8
            }
            other => other,
        });
    }
    out
}
