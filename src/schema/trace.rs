//! Decodes a type again and again, each time learning one thing more about it.

use super::node::{Content, Form, Node, TEXT_PROBES, Variant};
use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::{MapDeserializer, StrDeserializer},
    },
};
use serde_json::Value;
use std::{
    any::type_name,
    cell::Cell,
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Enough for types of a thousand parts; what is larger is described in part.
const MOST_PASSES: usize = 10_000;
const MOST_NODES: usize = 2_000;
const MOST_DEPTH: usize = 24;

/// What `Box<RawValue>` of serde_json asks for: a value as text.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// All that can be found out about `T`.
pub(super) fn trace<T: DeserializeOwned>() -> Node {
    let mut root = Node::default();
    let nodes = Cell::new(0);
    let path = Path { visitor: "", depth: 0, nodes: &nodes, up: None };
    for _ in 0..MOST_PASSES {
        if root.complete {
            break;
        }
        // A type may panic over a value that no sender would send. That must not keep a worker from starting.
        let pass = AssertUnwindSafe(|| visit(&mut root, PhantomData::<T>, Mode::Learn, &path).is_ok());
        if catch_unwind(pass).is_err() {
            break;
        }
    }
    root
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Find out one thing more.
    Learn,
    /// Make a value, as far as is known how.
    Supply,
}

/// The way down to a place. A visitor that is met again on it is a type that contains itself.
struct Path<'a> {
    visitor: &'static str,
    depth: usize,
    nodes: &'a Cell<usize>,
    up: Option<&'a Path<'a>>,
}

impl<'a> Path<'a> {
    fn down(&'a self, visitor: &'static str) -> Option<Path<'a>> {
        let mut above = Some(self);
        while let Some(path) = above {
            if path.visitor == visitor {
                return None;
            }
            above = path.up;
        }
        (self.depth < MOST_DEPTH).then(|| Path { visitor, depth: self.depth + 1, nodes: self.nodes, up: Some(self) })
    }

    /// Whether that many more nodes are affordable.
    fn affords(&self, count: usize) -> bool {
        self.nodes.set(self.nodes.get().saturating_add(count));
        self.nodes.get() <= MOST_NODES
    }
}

/// Why one decoding ended early; most do.
#[derive(Debug)]
enum Stop {
    /// The struct says that it cannot do without this field.
    Missing(&'static str),
    Other,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the trace of a type went no further")
    }
}

impl std::error::Error for Stop {}

impl serde::de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// Decodes the type at one place.
fn visit<'de, S: DeserializeSeed<'de>>(
    node: &mut Node,
    seed: S,
    mode: Mode,
    path: &Path<'_>,
) -> Result<S::Value, Stop> {
    let mode = if node.complete { Mode::Supply } else { mode };
    let result = seed.deserialize(Probe { node: &mut *node, mode, path });
    if mode == Mode::Learn {
        node.learn(result.is_ok());
    }
    // What a part lacks is not what the whole lacks.
    result.map_err(|_| Stop::Other)
}

/// The deserializer that writes down what it is asked for.
struct Probe<'a> {
    node: &'a mut Node,
    mode: Mode,
    path: &'a Path<'a>,
}

impl Probe<'_> {
    /// Writes down what is asked for, the first time.
    fn note(&mut self, content: impl FnOnce() -> Content) {
        if matches!(self.node.content, Content::Unknown) {
            self.node.content = content();
        }
    }

    /// The same for something with that many parts.
    fn note_parts(&mut self, count: usize, content: impl FnOnce() -> Content) {
        if matches!(self.node.content, Content::Unknown) {
            match self.path.affords(count) {
                true => self.node.content = content(),
                false => self.node.give_up(),
            }
        }
    }
}

/// A type that asks for different things at different times is not described.
fn inconsistent<T>(node: &mut Node) -> Result<T, Stop> {
    node.give_up();
    Err(Stop::Other)
}

macro_rules! integers {
    ($($method:ident $visit:ident $ty:ident)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
            self.note(|| Content::Integer { least: bound($ty::MIN), most: bound($ty::MAX) });
            // Zero, and one for those that are never zero.
            visitor.$visit(if self.node.next == 0 { 0 } else { 1 })
        }
    )*};
}

/// JSON numbers have no bounds, but those of Rust's widest integers cannot be written down here.
fn bound<T: TryInto<i64> + TryInto<u64> + Copy>(value: T) -> Option<Value> {
    let signed: Option<i64> = value.try_into().ok();
    let unsigned: Option<u64> = value.try_into().ok();
    signed.map(Value::from).or(unsigned.map(Value::from))
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    integers! {
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(|| Content::Any);
        let none = || std::iter::empty::<(&str, &str)>();
        match self.node.next {
            0 => visitor.visit_unit(),
            1 => visitor.visit_bool(false),
            2 => visitor.visit_i64(0),
            3 => visitor.visit_str(""),
            4 => visitor.visit_map(MapDeserializer::new(none())),
            _ => visitor.visit_seq(serde::de::value::SeqDeserializer::new(std::iter::empty::<&str>())),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(|| Content::Bool);
        visitor.visit_bool(false)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(|| Content::Number);
        visitor.visit_f64(if self.node.next == 0 { 0.0 } else { 1.0 })
    }

    fn deserialize_char<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(|| Content::Char);
        visitor.visit_char('a')
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(|| Content::Text { format: None });
        let (text, known_as) = TEXT_PROBES.get(self.node.next).copied().unwrap_or_default();
        if let Content::Text { format } = &mut self.node.content {
            *format = known_as;
        }
        visitor.visit_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(|| Content::Bytes);
        visitor.visit_bytes(&[])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(|| Content::Null);
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(mut self, name: &'static str, visitor: V) -> Result<V::Value, Stop> {
        if name == RAW_VALUE {
            self.note(|| Content::Any);
            return visitor.visit_map(MapDeserializer::new(std::iter::once((RAW_VALUE, "null"))));
        }
        match self.path.down(type_name::<V>()) {
            Some(path) => visitor.visit_newtype_struct(Probe { path: &path, ..self }),
            None => inconsistent(self.node),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note_parts(1, || Content::Optional(Box::default()));
        let Content::Optional(inner) = &mut self.node.content else { return inconsistent(self.node) };
        if self.mode == Mode::Supply {
            return visitor.visit_none();
        }
        let result = visitor.visit_some(Probe { node: &mut *inner, mode: Mode::Learn, path: self.path });
        inner.learn(result.is_ok());
        self.node.complete = inner.complete;
        result
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note_parts(1, || Content::List(Box::default()));
        let Content::List(item) = &mut self.node.content else { return inconsistent(self.node) };
        let items = if self.mode == Mode::Learn { std::slice::from_mut(&mut **item) } else { &mut [] };
        let mut elements = Elements { items, learn: Some(0), at: 0, path: self.path };
        let result = visitor.visit_seq(&mut elements);
        let reached = elements.at > 0;
        if self.mode == Mode::Learn {
            self.node.complete = !reached || item.complete;
        }
        result
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.note_parts(len, || Content::Tuple((0..len).map(|_| Node::default()).collect()));
        let at = self.node.next;
        let Content::Tuple(items) = &mut self.node.content else { return inconsistent(self.node) };
        let learn = (self.mode == Mode::Learn).then_some(at);
        let mut elements = Elements { items, learn, at: 0, path: self.path };
        let result = visitor.visit_seq(&mut elements);
        let reached = elements.at > at;
        if self.mode == Mode::Learn {
            if !reached || items.get(at).is_none_or(|item| item.complete) {
                self.node.next += 1;
            }
            self.node.complete = self.node.next >= items.len();
        }
        result
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note_parts(2, || Content::Map { key: Box::default(), value: Box::default() });
        let Content::Map { key, value } = &mut self.node.content else { return inconsistent(self.node) };
        if self.mode == Mode::Supply {
            return visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, &str)>()));
        }
        let mut entry = Entry { key, value, state: Reached::Nothing, path: self.path };
        let result = visitor.visit_map(&mut entry);
        self.node.complete = match entry.state {
            Reached::Nothing => true,
            Reached::Key => key.complete,
            Reached::Value => value.complete,
        };
        result
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        title: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Some(path) = self.path.down(type_name::<V>()) else { return inconsistent(self.node) };
        self.note_parts(names.len(), || Content::Struct {
            title,
            fields: names.iter().map(|name| (*name, Node::default())).collect(),
            required: Vec::new(),
        });
        let at = self.node.next;
        let Content::Struct { fields, required, .. } = &mut self.node.content else { return inconsistent(self.node) };
        if self.mode == Mode::Learn
            && let Some((name, field)) = fields.get_mut(at)
        {
            let mut one = OneField { name, field: &mut *field, path: &path, given: 0 };
            let result = visitor.visit_map(&mut one);
            if one.given < 2 || field.complete {
                self.node.next += 1;
            }
            return result;
        }
        let given = Fields { fields, names: required.iter(), value: None, path: &path };
        let result = visitor.visit_map(given);
        if self.mode == Mode::Learn {
            match &result {
                Err(Stop::Missing(name)) if names.contains(name) && !required.contains(name) => required.push(name),
                _ => self.node.complete = true,
            }
        }
        result
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        title: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Some(path) = self.path.down(type_name::<V>()) else { return inconsistent(self.node) };
        self.note_parts(names.len(), || {
            let variant = |name: &&'static str| Variant::new(name);
            Content::Enum { title, variants: names.iter().map(variant).collect() }
        });
        let at = self.node.next;
        let Content::Enum { variants, .. } = &mut self.node.content else { return inconsistent(self.node) };
        if self.mode == Mode::Supply {
            let known = variants.iter_mut().find(|variant| variant.works).ok_or(Stop::Other)?;
            return visitor.visit_enum(Choice { variant: known, mode: Mode::Supply, path: &path });
        }
        let total = variants.len();
        let variant = variants.get_mut(at).ok_or(Stop::Other);
        let result = match variant {
            Ok(variant) => {
                let choice = Choice { variant: &mut *variant, mode: Mode::Learn, path: &path };
                let result = visitor.visit_enum(choice);
                if variant.form == Form::Unknown || variant.payload.complete {
                    variant.works = result.is_ok();
                    self.node.next += 1;
                }
                result
            }
            Err(stop) => Err(stop),
        };
        self.node.complete = self.node.next >= total;
        result
    }
}

/// The elements of a list or tuple: those before and after the one to learn about are supplied.
struct Elements<'a> {
    items: &'a mut [Node],
    learn: Option<usize>,
    at: usize,
    path: &'a Path<'a>,
}

impl<'de> SeqAccess<'de> for &mut Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let Some(item) = self.items.get_mut(self.at) else { return Ok(None) };
        let mode = if self.learn == Some(self.at) { Mode::Learn } else { Mode::Supply };
        self.at += 1;
        visit(item, seed, mode, self.path).map(Some)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Nothing,
    Key,
    Value,
}

/// A map of one entry.
struct Entry<'a> {
    key: &'a mut Node,
    value: &'a mut Node,
    state: Reached,
    path: &'a Path<'a>,
}

impl<'de> MapAccess<'de> for &mut Entry<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        if self.state != Reached::Nothing {
            return Ok(None);
        }
        self.state = Reached::Key;
        visit(self.key, seed, Mode::Learn, self.path).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        self.state = Reached::Value;
        visit(self.value, seed, Mode::Learn, self.path)
    }
}

/// A struct with one of its fields.
struct OneField<'a> {
    name: &'static str,
    field: &'a mut Node,
    path: &'a Path<'a>,
    /// 1 after the name, 2 after the value.
    given: u8,
}

impl<'de> MapAccess<'de> for &mut OneField<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        if self.given > 0 {
            return Ok(None);
        }
        self.given = 1;
        seed.deserialize(name_of(self.name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        self.given = 2;
        visit(self.field, seed, Mode::Learn, self.path)
    }
}

/// A struct with the fields that are known to be required.
struct Fields<'a> {
    fields: &'a mut [(&'static str, Node)],
    names: std::slice::Iter<'a, &'static str>,
    value: Option<&'static str>,
    path: &'a Path<'a>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let Some(name) = self.names.next() else { return Ok(None) };
        self.value = Some(name);
        seed.deserialize(name_of(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        let wanted = self.value.take();
        let field = self.fields.iter_mut().find(|(name, _)| Some(*name) == wanted);
        let (_, node) = field.ok_or(Stop::Other)?;
        visit(node, seed, Mode::Supply, self.path)
    }
}

fn name_of<'de>(name: &'de str) -> StrDeserializer<'de, Stop> {
    name.into_deserializer()
}

/// One variant of an enum.
struct Choice<'a> {
    variant: &'a mut Variant,
    mode: Mode,
    path: &'a Path<'a>,
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Stop> {
        let name = seed.deserialize(name_of(self.variant.name))?;
        Ok((name, self))
    }
}

impl<'a> Choice<'a> {
    fn payload(self) -> Probe<'a> {
        self.variant.form = Form::Data;
        Probe { node: &mut self.variant.payload, mode: self.mode, path: self.path }
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.variant.form = Form::Unit;
        self.variant.payload.complete = true;
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        let (mode, path) = (self.mode, self.path);
        visit(self.payload().node, seed, mode, path)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.payload().deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Stop> {
        self.payload().deserialize_struct("", fields, visitor)
    }
}
