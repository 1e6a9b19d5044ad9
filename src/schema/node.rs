//! What is known of a type so far.

use serde_json::Value;

/// One place in a type.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) content: Content,
    /// Nothing more can be learned.
    pub(crate) complete: bool,
    /// The probe that was tried last satisfies the type.
    pub(crate) satisfied: bool,
    /// The probe to try, or the part to visit next.
    pub(crate) next: usize,
}

/// What a type asks for.
#[derive(Debug, Default)]
pub(crate) enum Content {
    /// Nothing yet.
    #[default]
    Unknown,
    /// Whatever comes.
    Any,
    Null,
    Bool,
    Integer {
        least: Option<Value>,
        most: Option<Value>,
    },
    Number,
    Char,
    Text {
        /// What JSON Schema calls texts like the probe that was tried last.
        format: Option<&'static str>,
    },
    Bytes,
    Optional(Box<Node>),
    List(Box<Node>),
    Tuple(Vec<Node>),
    Map {
        key: Box<Node>,
        value: Box<Node>,
    },
    Struct {
        title: &'static str,
        fields: Vec<(&'static str, Node)>,
        required: Vec<&'static str>,
    },
    Enum {
        title: &'static str,
        variants: Vec<Variant>,
    },
}

/// One variant of an enum.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) payload: Node,
    /// A value of this variant can be made.
    pub(crate) works: bool,
}

impl Variant {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, form: Form::Unknown, payload: Node::default(), works: false }
    }
}

/// Whether a variant carries data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Unknown,
    Unit,
    Data,
}

impl Node {
    /// Gives up on this place: anything may stand here.
    pub(crate) fn give_up(&mut self) {
        *self = Self { content: Content::Any, complete: true, ..Self::default() };
    }

    /// How many probes there are for what stands here; 1 where the value makes no difference.
    fn probes(&self) -> usize {
        match self.content {
            Content::Any => ANY_PROBES,
            Content::Text { .. } => TEXT_PROBES.len(),
            Content::Integer { .. } | Content::Number => 2,
            _ => 1,
        }
    }

    /// Takes note of whether the last probe satisfied the type as a whole, whatever it did with the value afterwards.
    pub(crate) fn learn(&mut self, satisfied: bool) {
        if self.complete || self.has_parts() {
            return;
        }
        self.satisfied = satisfied;
        if satisfied || self.next + 1 >= self.probes() {
            self.complete = true;
        } else {
            self.next += 1;
        }
    }

    /// Whether parts are visited one by one; such a node says itself when it is complete.
    fn has_parts(&self) -> bool {
        matches!(
            self.content,
            Content::Optional(_)
                | Content::List(_)
                | Content::Tuple(_)
                | Content::Map { .. }
                | Content::Struct { .. }
                | Content::Enum { .. }
        )
    }
}

/// Null, false, zero, "", {} and [].
pub(crate) const ANY_PROBES: usize = 6;

/// Texts that types which parse a text may accept, and what JSON Schema calls such texts.
pub(crate) const TEXT_PROBES: [(&str, Option<&str>); 14] = [
    ("", None),
    ("a", None),
    ("0", None),
    ("1970-01-01T00:00:00Z", Some("date-time")),
    ("1970-01-01", Some("date")),
    ("00:00:00", Some("time")),
    ("1970-01-01T00:00:00", None),
    ("00000000-0000-0000-0000-000000000000", Some("uuid")),
    ("http://localhost/", Some("uri")),
    ("127.0.0.1", Some("ipv4")),
    ("::1", Some("ipv6")),
    ("127.0.0.1:80", None),
    ("1s", None),
    ("true", None),
];
