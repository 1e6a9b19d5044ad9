//! L1. The scripts that the server runs. They are sent by their hash, and whole where the server does not know them.

use ::redis::Cmd;
use sha1_smol::Sha1;
use std::sync::LazyLock;

pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: Sha1::from(text).digest().to_string() }
    }

    /// The command that runs it, without its arguments.
    pub(super) fn command(&self, whole: bool, keys: &[&str]) -> Cmd {
        let (word, which) = if whole { ("EVAL", self.text) } else { ("EVALSHA", self.hash.as_str()) };
        let mut command = ::redis::cmd(word);
        command.arg(which).arg(keys.len()).arg(keys);
        command
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident: $file:literal;)*) => {
        $($(#[$doc])* pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("lua/prelude.lua"), include_str!($file)))
        });)*
    };
}

scripts! {
    LOAD: "lua/load.lua";
    COMMIT: "lua/commit.lua";
    WAIT: "lua/wait.lua";
    DUE: "lua/due.lua";
    CLAIM: "lua/claim.lua";
    REMOVE: "lua/remove.lua";
    SCAN: "lua/scan.lua";
}
