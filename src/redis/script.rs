//! L0. The scripts that the server runs. They are sent by their hash, and whole where the server does not know them.

use ::redis::Cmd;
use sha1_smol::Sha1;

pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: Sha1::from(text).digest().to_string() }
    }

    /// The command that runs it, without its arguments.
    pub(crate) fn command(&self, whole: bool, keys: &[&str]) -> Cmd {
        let (word, which) = if whole { ("EVAL", self.text) } else { ("EVALSHA", self.hash.as_str()) };
        let mut command = ::redis::cmd(word);
        command.arg(which).arg(keys.len()).arg(keys);
        command
    }
}
