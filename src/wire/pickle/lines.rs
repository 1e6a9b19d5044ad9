//! Texts as the oldest protocol writes them, up to the end of a line.

/// Protocol 0: Latin-1, with `\uXXXX` and `\UXXXXXXXX`.
pub(super) fn unescaped(line: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let [first, tail @ ..] = rest {
        let digits = match (first, tail.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        if digits == 0 {
            out.push(char::from(*first));
            rest = tail;
            continue;
        }
        let digits = tail.get(1..=digits)?;
        let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        out.push(char::from_u32(code)?);
        rest = &tail[digits.len() + 1..];
    }
    Some(out)
}

/// A quoted text of Python 2.
pub(super) fn unquoted(line: &[u8]) -> Option<String> {
    let [quote @ (b'\'' | b'"'), inner @ .., last] = line else { return None };
    if quote != last {
        return None;
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'x' => {
                let digits = [bytes.next()?, bytes.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            other @ (b'\\' | b'\'' | b'"') => out.push(other),
            _ => return None,
        }
    }
    String::from_utf8(out).ok()
}
