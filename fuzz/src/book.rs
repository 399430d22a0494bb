//! A head by the book: RFC 9112 §2 to §5 as a reader would do it with a
//! pencil, slow and without a thought of speed.
//!
//! Owns: what a strict head is, written a second time.
//! Must not know: how ours is read.

/// The fields of a head, names and values as they stand in it.
pub type Lines<'a> = Vec<(&'a [u8], &'a [u8])>;

/// First line, fields, and what follows; `None`: it is no head, or not whole.
pub fn read(bytes: &[u8]) -> Option<(&[u8], Lines<'_>, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
    let mut lines = Vec::new();
    let mut left = head;
    while let Some(at) = left.windows(2).position(|window| window == b"\r\n") {
        lines.push(&left[..at]);
        left = &left[at + 2..];
    }
    lines.push(left);
    // Nothing but pairs of them ends a line.
    if lines.iter().any(|line| line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
        return None;
    }
    let (first, fields) = lines.split_first()?;
    let fields = fields.iter().map(|line| field(line)).collect::<Option<_>>()?;
    Some((first, fields, rest))
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let value = trim(value);
    let sound = !name.is_empty()
        && name.iter().all(|byte| is_tchar(*byte))
        && value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    sound.then_some((name, value))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §5.6.2.
pub fn is_tchar(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_')
        || matches!(byte, b'`' | b'|' | b'~')
}
