//! L1. What the store runs in the server.

use crate::redis::Script;
use std::sync::LazyLock;

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
