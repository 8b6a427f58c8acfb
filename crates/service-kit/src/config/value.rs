//! From a layer's value to a service's own type.
//!
//! Strict for files (a number is no text), and led by the wanted type for environment variables, which have
//! no types of their own.

use std::collections::BTreeMap;

use config::{Value, ValueKind};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::Fault;

/// What the place of a variable begins with.
pub(super) const VARIABLE: &str = "environment variable ";

/// Did this value come from the environment?
pub(super) fn is_variable(value: &Value) -> bool {
    value.origin().is_some_and(|origin| origin.starts_with(VARIABLE))
}

/// Reads `value`, which stands at `key`.
pub(super) fn read<T: DeserializeOwned>(value: &Value, key: &str) -> Result<T, Fault> {
    Node { value, key }.descend(std::marker::PhantomData)
}

/// A value and its dotted key.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    key: &'a str,
}

impl<'a> Node<'a> {
    /// Reads this value and says of any fault where it is.
    fn descend<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self).map_err(|fault| fault.at(self.value, self.key))
    }

    /// The text of an environment variable.
    fn variable(self) -> Option<&'a str> {
        if let ValueKind::String(text) = &self.value.kind
            && is_variable(self.value)
        {
            return Some(text);
        }
        None
    }

    fn is_table(self) -> bool {
        matches!(self.value.kind, ValueKind::Table(_))
    }
}

/// An environment variable's text as the type that is wanted.
macro_rules! typed {
    ($($method:ident => $parsed:ty, $visit:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.variable().map(|text| text.trim().parse::<$parsed>()) {
                Some(Ok(value)) => visitor.$visit(value),
                Some(Err(_)) | None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Node<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(flag) => visitor.visit_bool(*flag),
            ValueKind::I64(number) => visitor.visit_i64(*number),
            ValueKind::I128(number) => visitor.visit_i128(*number),
            ValueKind::U64(number) => visitor.visit_u64(*number),
            ValueKind::U128(number) => visitor.visit_u128(*number),
            ValueKind::Float(number) => visitor.visit_f64(*number),
            ValueKind::String(text) => visitor.visit_str(text),
            ValueKind::Array(items) => visitor.visit_seq(Items { values: items, key: self.key, next: 0 }),
            ValueKind::Table(table) => {
                // Sorted, so that of several faults the same one is always named.
                let entries: BTreeMap<_, _> = table.iter().collect();
                visitor.visit_map(Entries { rest: entries.into_iter(), key: self.key, current: None })
            }
        }
    }

    typed! {
        deserialize_bool => bool, visit_bool;
        deserialize_i8 => i64, visit_i64;
        deserialize_i16 => i64, visit_i64;
        deserialize_i32 => i64, visit_i64;
        deserialize_i64 => i64, visit_i64;
        deserialize_u8 => u64, visit_u64;
        deserialize_u16 => u64, visit_u64;
        deserialize_u32 => u64, visit_u64;
        deserialize_u64 => u64, visit_u64;
        deserialize_f32 => f64, visit_f64;
        deserialize_f64 => f64, visit_f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.variable() == Some("") || matches!(self.value.kind, ValueKind::Nil) {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if let Some(text) = self.variable() {
            let origin = self.value.origin().map(str::to_owned);
            let items: Vec<Value> = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::new(origin.as_ref(), item))
                .collect();
            return visitor.visit_seq(Items { values: &items, key: self.key, next: 0 });
        }
        if is_variable(self.value) && self.is_table() {
            return Err(Fault::mismatch("a plain list (only a file can set tables in arrays)", self.value));
        }
        if matches!(self.value.kind, ValueKind::Array(_)) {
            self.deserialize_any(visitor)
        } else {
            Err(Fault::mismatch("a list", self.value))
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_table() {
            self.deserialize_any(visitor)
        } else {
            Err(Fault::mismatch("a table", self.value))
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if let ValueKind::String(text) = &self.value.kind {
            return visitor.visit_enum(text.as_str().into_deserializer());
        }
        if let ValueKind::Table(table) = &self.value.kind
            && table.len() == 1
            && let Some((name, value)) = table.iter().next()
        {
            return visitor.visit_enum(Variant { name, value, key: self.key });
        }
        Err(Fault::mismatch(&format!("one of {}", variants.join(", ")), self.value))
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// An array's elements, under keys such as `sync.modules.0`.
struct Items<'a> {
    values: &'a [Value],
    key: &'a str,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(value) = self.values.get(self.next) else {
            return Ok(None);
        };
        let key = format!("{}[{}]", self.key, self.next);
        self.next += 1;
        Node { value, key: &key }.descend(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len().saturating_sub(self.next))
    }
}

/// A table's entries.
struct Entries<'a> {
    rest: std::collections::btree_map::IntoIter<&'a String, &'a Value>,
    key: &'a str,
    current: Option<(&'a String, &'a Value)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.current = self.rest.next();
        let Some((name, value)) = self.current else {
            return Ok(None);
        };
        let key = format!("{}.{name}", self.key);
        let name: StrDeserializer<'_, Fault> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|fault| fault.at(value, &key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((name, value)) = self.current else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        let key = format!("{}.{name}", self.key);
        Node { value, key: &key }.descend(seed)
    }
}

/// A table with one key, read as an enum's variant: `{ dir = "/x" }`.
struct Variant<'a> {
    name: &'a str,
    value: &'a Value,
    key: &'a str,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = VariantContent<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Fault> {
        let key = format!("{}.{}", self.key, self.name);
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        let variant = seed.deserialize(name).map_err(|fault| fault.named(self.name).at(self.value, &key))?;
        Ok((variant, VariantContent { value: self.value, key }))
    }
}

/// What a variant holds.
struct VariantContent<'a> {
    value: &'a Value,
    key: String,
}

impl<'de> VariantAccess<'de> for VariantContent<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::mismatch("the name alone, without a value", self.value).at(self.value, &self.key))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        Node { value: self.value, key: &self.key }.descend(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.struct_variant(&[], visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let node = Node { value: self.value, key: &self.key };
        de::Deserializer::deserialize_any(node, visitor).map_err(|fault| fault.at(self.value, &self.key))
    }
}
