use super::{MAX_DIGITS, PickleError, number::twos_complement};
use crate::wire::{object::decoded, text::end_of_string};

type Result<T> = std::result::Result<T, PickleError>;

/// Writes JSON text as a pickle of protocol 4 in one frame, as Python does for small values.
///
/// # Errors
/// If the text is not JSON, has half of a surrogate pair, or a number with too many digits.
pub(crate) fn write(json: &str) -> Result<Vec<u8>> {
    const HEAD: usize = 11;
    let mut out = Vec::with_capacity(json.len() + HEAD + 16);
    out.extend_from_slice(&[0x80, 4, 0x95]);
    out.extend_from_slice(&[0; 8]);
    Writer { json, at: 0, out: &mut out, open: Vec::new() }.all()?;
    out.push(b'.');
    let frame = (out.len() - HEAD) as u64;
    out[HEAD - 8..HEAD].copy_from_slice(&frame.to_le_bytes());
    Ok(out)
}

/// Translates token by token. Open containers are kept in a list, so depth costs no stack.
struct Writer<'a> {
    json: &'a str,
    at: usize,
    out: &'a mut Vec<u8>,
    open: Vec<u8>,
}

const BROKEN: PickleError = PickleError::Malformed { what: "the JSON text is broken" };

impl Writer<'_> {
    fn all(&mut self) -> Result<()> {
        loop {
            let opened = self.value()?;
            if !opened && !self.close()? {
                break;
            }
            self.key()?;
        }
        self.skip_space();
        if self.at == self.json.len() { Ok(()) } else { Err(BROKEN) }
    }

    /// Writes a value; of a container only its beginning. Whether there is a container left open.
    fn value(&mut self) -> Result<bool> {
        self.skip_space();
        match self.peek()? {
            open @ (b'{' | b'[') => {
                self.at += 1;
                let (empty, end) = if open == b'{' { (b'}', b'}') } else { (b']', b']') };
                self.out.push(empty);
                self.skip_space();
                if self.peek()? == end {
                    self.at += 1;
                    return Ok(false);
                }
                self.out.push(b'(');
                self.open.push(open);
                return Ok(true);
            }
            b'"' => self.string()?,
            b't' => self.word("true", 0x88)?,
            b'f' => self.word("false", 0x89)?,
            b'n' => self.word("null", b'N')?,
            _ => self.number()?,
        }
        Ok(false)
    }

    /// After a value: goes on to the next one, past the ends of containers. `false` at the end of all.
    fn close(&mut self) -> Result<bool> {
        while let Some(open) = self.open.last() {
            let (end, code) = if *open == b'{' { (b'}', b'u') } else { (b']', b'e') };
            self.skip_space();
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    return Ok(true);
                }
                byte if byte == end => {
                    self.at += 1;
                    self.out.push(code);
                    self.open.pop();
                }
                _ => return Err(BROKEN),
            }
        }
        Ok(false)
    }

    /// Within an object: the key before the next value.
    fn key(&mut self) -> Result<()> {
        if self.open.last() != Some(&b'{') {
            return Ok(());
        }
        self.skip_space();
        self.string()?;
        self.skip_space();
        if self.peek()? != b':' {
            return Err(BROKEN);
        }
        self.at += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.json.as_bytes().get(self.at) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8> {
        self.json.as_bytes().get(self.at).copied().ok_or(BROKEN)
    }

    fn word(&mut self, word: &str, code: u8) -> Result<()> {
        if !self.json.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(BROKEN);
        }
        self.at += word.len();
        self.out.push(code);
        Ok(())
    }

    fn string(&mut self) -> Result<()> {
        if self.peek()? != b'"' {
            return Err(BROKEN);
        }
        let end = end_of_string(self.json.as_bytes(), self.at + 1);
        let json = self.json.get(self.at..=end).ok_or(BROKEN)?;
        self.at = end + 1;
        let text = decoded(json).ok_or(PickleError::NotText)?;
        match (u8::try_from(text.len()), u32::try_from(text.len())) {
            (Ok(short), _) => self.out.extend_from_slice(&[0x8c, short]),
            (_, Ok(long)) => {
                self.out.push(b'X');
                self.out.extend_from_slice(&long.to_le_bytes());
            }
            _ => {
                self.out.push(0x8d);
                self.out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            }
        }
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        let rest = &self.json[self.at..];
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let text = &rest[..end];
        self.at += end;
        if text.contains(['.', 'e', 'E']) {
            let value: f64 = text.parse().map_err(|_| BROKEN)?;
            self.out.push(b'G');
            self.out.extend_from_slice(&value.to_be_bytes());
            return Ok(());
        }
        match text.parse::<i64>() {
            Ok(value) => self.integer(value),
            Err(_) => return self.big(text),
        }
        Ok(())
    }

    fn integer(&mut self, value: i64) {
        if let Ok(small) = u8::try_from(value) {
            self.out.extend_from_slice(&[b'K', small]);
        } else if let Ok(small) = u16::try_from(value) {
            self.out.push(b'M');
            self.out.extend_from_slice(&small.to_le_bytes());
        } else if let Ok(small) = i32::try_from(value) {
            self.out.push(b'J');
            self.out.extend_from_slice(&small.to_le_bytes());
        } else {
            self.out.extend_from_slice(&[0x8a, 8]);
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn big(&mut self, text: &str) -> Result<()> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(BROKEN);
        }
        if digits.len() > MAX_DIGITS {
            return Err(PickleError::HugeNumber);
        }
        let bytes = twos_complement(digits, digits.len() < text.len());
        match u8::try_from(bytes.len()) {
            Ok(short) => self.out.extend_from_slice(&[0x8a, short]),
            Err(_) => {
                self.out.push(0x8b);
                self.out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            }
        }
        self.out.extend_from_slice(&bytes);
        Ok(())
    }
}
