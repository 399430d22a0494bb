//! A chunked body: what passes through means the same to the next reader.

use moorgate::http1::chunked::Chunked;
use moorgate::http1::fields::Named;
use moorgate::http1::head::HeadLimits;

use super::{peer, reader};

/// The first byte says how the others are cut.
pub fn check(data: &[u8]) {
    let Some((by, bytes)) = data.split_first() else { return };
    let by = usize::from(*by).max(1);
    let verbatim = || Chunked::verbatim(Named::default(), HeadLimits::default());
    let decoded = || Chunked::decoded(HeadLimits::default());

    let whole = reader::run(verbatim(), bytes, usize::MAX);
    let cut = reader::run(verbatim(), bytes, by);
    let plain = reader::run(decoded(), bytes, usize::MAX);
    assert_eq!(plain, reader::run(decoded(), bytes, by), "cuts change nothing");
    assert_eq!(plain.is_some(), whole.is_some(), "decoding changes no judgement");
    assert_eq!(cut.is_some(), whole.is_some(), "cuts change no judgement");
    if plain.is_some() {
        assert_eq!(verbatim().check(bytes), Ok(()), "a look ahead judges the same");
    }

    let (Some((passed, eaten)), Some((cut, _)), Some((plain, _))) = (whole, cut, plain) else { return };
    for passed in [passed, cut] {
        let again = reader::run(verbatim(), &passed, usize::MAX);
        assert_eq!(again, Some((passed.clone(), passed.len())), "what has passed passes as it is");
        assert_eq!(reader::unchunk(&passed), Some((plain.clone(), &[][..])), "and means the same");
        assert_eq!(hyper_reads(&passed), Some(plain.clone()), "to another reader, too");
    }
    if let Some(body) = hyper_reads(&bytes[..eaten]) {
        assert_eq!(body, plain, "as what came did");
    }
}

fn hyper_reads(chunks: &[u8]) -> Option<Vec<u8>> {
    let mut request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    request.extend_from_slice(chunks);
    peer::requests(&request).into_iter().next()?.body
}
