//! JSON read within bounds. Playbooks come from strangers, and are signed over their canonical form: a key that
//! stands twice, or a number that a double cannot hold, would mean different things to different readers.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::finding::{Finding, shown};

/// The largest playbook, in bytes.
pub const MAX_PLAYBOOK_BYTES: usize = 1024 * 1024;

/// The deepest nesting of lists and objects.
pub const MAX_DEPTH: usize = 32;

/// The largest whole number that every JSON reader holds exactly (RFC 7493), 2^53 - 1.
const MAX_SAFE: u64 = 9_007_199_254_740_991;

/// Reads a text as one JSON value, within bounds and without what readers would disagree about: keys that stand
/// twice, whole numbers that a double cannot hold.
pub fn read(text: &str) -> Result<Value, Finding> {
    if text.len() > MAX_PLAYBOOK_BYTES {
        let message = format!(
            "the file has {} bytes; at most {MAX_PLAYBOOK_BYTES} are read",
            text.len()
        );
        return Err(Finding::error(
            "",
            "too-large",
            message,
            "split the playbook",
        ));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Bounded { depth: 0 }.deserialize(&mut reader);
    value
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| {
            let message = format!("this is not usable JSON: {}", shown(&error.to_string()));
            Finding::error(
                "",
                "not-json",
                message,
                "correct it at that line and column",
            )
        })
}

/// Reads a value whose parents nest this deeply.
#[derive(Clone, Copy)]
struct Bounded {
    depth: usize,
}

impl Bounded {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!(
                "lists and objects nest deeper than {MAX_DEPTH}"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > MAX_SAFE {
            return Err(E::custom(format_args!(
                "{value} is beyond the whole numbers that every reader holds exactly; write it as a text"
            )));
        }
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        if value > MAX_SAFE {
            return Err(E::custom(format_args!(
                "{value} is beyond the whole numbers that every reader holds exactly; write it as a text"
            )));
        }
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key `{}` stands twice in one object",
                    shown(&key)
                )));
            }
            let value = map.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_would_disagree_about_is_refused() {
        for (text, word) in [
            ("{\"a\":1,\"a\":2}", "stands twice"),
            ("[9007199254740992]", "write it as a text"),
            ("[-9007199254740993]", "write it as a text"),
            ("{} {}", "trailing"),
            ("", "EOF"),
        ] {
            let finding = read(text).unwrap_err();
            assert!(finding.message.contains(word), "{text}: {finding}");
        }
        assert!(
            read(&"[".repeat(100_000))
                .unwrap_err()
                .message
                .contains("nest deeper")
        );
        assert_eq!(
            read(&" ".repeat(MAX_PLAYBOOK_BYTES + 1)).unwrap_err().code,
            "too-large"
        );
        assert!(read("{\"a\":[1,-2.5,null,true,\"x\"]}").is_ok());
    }
}
