//! Several arguments decoded as one tuple, or as one struct with fields of their names.

use super::Named;
use crate::{handler::Absent, task::BoundArguments};
use serde::{
    Deserializer,
    de::{
        DeserializeOwned, Error as _, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Error;

/// Decodes all arguments at once. An error names the argument that does not fit.
pub(super) fn decode<T: DeserializeOwned>(named: &[Named], bound: &BoundArguments<'_>) -> Result<T, Error> {
    T::deserialize(All { named, bound })
}

#[derive(Clone, Copy)]
struct All<'a> {
    named: &'a [Named],
    bound: &'a BoundArguments<'a>,
}

impl<'a> All<'a> {
    fn values(self) -> impl Iterator<Item = One<'a>> {
        self.named.iter().enumerate().map(move |(index, named)| {
            let default = named.default.as_ref().map(|default| default.as_str());
            One { name: &named.name, text: self.bound.text(index).or(default) }
        })
    }
}

impl<'de, 'a: 'de> Deserializer<'de> for All<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(self.values()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let given = self.values().filter(|one| one.text.is_some());
        visitor.visit_map(MapDeserializer::new(given.map(|one| (one.name, one))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct enum identifier ignored_any
    }
}

/// One argument, given or defaulted, or neither.
struct One<'a> {
    name: &'a str,
    text: Option<&'a str>,
}

impl One<'_> {
    fn unfit(&self, error: &Error) -> Error {
        Error::custom(format!("argument `{}`: {error}", self.name))
    }
}

impl<'de, 'a: 'de> IntoDeserializer<'de, Error> for One<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! forwarded {
    ($($method:ident($($arg:ident: $ty:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self $(, $arg: $ty)*, visitor: V) -> Result<V::Value, Error> {
            let result = match self.text {
                Some(text) => serde_json::Deserializer::from_str(text).$method($($arg,)* visitor),
                None => Absent.$method($($arg,)* visitor).map_err(Error::custom),
            };
            result.map_err(|e| self.unfit(&e))
        }
    )*};
}

impl<'de, 'a: 'de> Deserializer<'de> for One<'a> {
    type Error = Error;

    // Not all through `deserialize_any`: what is asked for decides how JSON is read.
    forwarded! {
        deserialize_any()
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_option()
        deserialize_i128()
        deserialize_u128()
        deserialize_newtype_struct(name: &'static str)
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}
