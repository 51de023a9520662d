//! A commit of each kind with a value in every field, made from the protobuf descriptors alone: neither Rust types nor hands that forget a field
//! take part.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const PACKAGE: &str = "sealwarden.event.v1";

/// The messages of the event vocabulary.
pub(crate) struct Vocabulary {
    messages: Vec<DescriptorProto>,
}

impl Vocabulary {
    pub(crate) fn of_today() -> Self {
        let set = FileDescriptorSet::decode(sealwarden_wire::DESCRIPTOR)
            .unwrap_or_else(|e| panic!("the descriptor set does not decode: {e}"));
        let ours = set
            .file
            .into_iter()
            .filter(|file| file.package() == PACKAGE);
        Self {
            messages: ours.flat_map(|file| file.message_type).collect(),
        }
    }

    /// The fields of `Event.kind`: name of the kind and its message.
    pub(crate) fn kinds(&self) -> Vec<(String, FieldDescriptorProto)> {
        self.message("Event")
            .field
            .iter()
            .map(|field| (field.name().to_owned(), field.clone()))
            .collect()
    }

    /// A commit with one event of this kind, every field filled.
    pub(crate) fn commit(&self, kind: &FieldDescriptorProto) -> Vec<u8> {
        let mut event = Vec::new();
        self.field(kind, &mut event);
        let mut commit = Vec::new();
        put_bytes(1, &self.filled("Envelope"), &mut commit);
        put_bytes(2, &event, &mut commit);
        commit
    }

    fn message(&self, name: &str) -> &DescriptorProto {
        let found = self.messages.iter().find(|message| message.name() == name);
        found.unwrap_or_else(|| panic!("no message {name} in {PACKAGE}"))
    }

    fn filled(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut fields: Vec<_> = self.message(name).field.iter().collect();
        fields.sort_by_key(|field| field.number());
        for field in fields {
            self.field(field, &mut bytes);
        }
        bytes
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the vocabulary uses few types; another one asks for a sample"
    )]
    fn field(&self, field: &FieldDescriptorProto, bytes: &mut Vec<u8>) {
        let number = u64::try_from(field.number()).unwrap_or_default();
        let times = if field.label() == Label::Repeated {
            2
        } else {
            1
        };
        match field.r#type() {
            Type::Message if field.type_name().ends_with("Entry") => map(number, field, bytes),
            Type::Message => {
                let name = field.type_name().rsplit('.').next().unwrap_or_default();
                (0..times).for_each(|_| put_bytes(number, &self.filled(name), bytes));
            }
            Type::String => {
                (1..=times).for_each(|n| put_bytes(number, text(field, n).as_bytes(), bytes));
            }
            Type::Bytes => (1..=times).for_each(|n| put_bytes(number, &[0, n, 0xff], bytes)),
            Type::Bool | Type::Enum => put_number(number, 1, bytes),
            Type::Uint32 | Type::Uint64 | Type::Int64 if times == 1 => {
                put_number(number, 1000 + number, bytes);
            }
            Type::Uint64 => {
                let mut packed = Vec::new();
                varint(1000 + number, &mut packed);
                varint(2000 + number, &mut packed);
                put_bytes(number, &packed, bytes);
            }
            other => panic!(
                "{}: no sample for {other:?} yet; add one here",
                field.name()
            ),
        }
    }
}

/// Two entries, in the order of their keys.
fn map(number: u64, field: &FieldDescriptorProto, bytes: &mut Vec<u8>) {
    for n in 1..=2 {
        let mut entry = Vec::new();
        put_bytes(1, format!("key {n}").as_bytes(), &mut entry);
        put_bytes(2, text(field, n).as_bytes(), &mut entry);
        put_bytes(number, &entry, bytes);
    }
}

fn text(field: &FieldDescriptorProto, n: u8) -> String {
    format!("{} {n} é", field.name())
}

fn put_bytes(number: u64, value: &[u8], bytes: &mut Vec<u8>) {
    varint(number << 3 | 2, bytes);
    varint(u64::try_from(value.len()).unwrap_or_default(), bytes);
    bytes.extend_from_slice(value);
}

fn put_number(number: u64, value: u64, bytes: &mut Vec<u8>) {
    varint(number << 3, bytes);
    varint(value, bytes);
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap_or_default());
}
