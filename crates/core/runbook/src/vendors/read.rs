//! Reads `vendors.yaml`; every mistake comes back with its place.

use std::time::Duration;

use jiff::civil::Date;

use super::{Sla, Vendor, Vendors};
use crate::digest::sha256;
use crate::fields::{Fields, Reader, Shape};
use crate::finding::Finding;
use crate::yaml::{self, Key, Node};

pub(crate) const VENDORS_FILE: &str = "vendors.yaml";

/// The most vendors of a file, and contacts of a vendor.
const MAX_VENDORS: usize = 200;
const MAX_CONTACTS: usize = 20;

const FILE: Shape = Shape {
    what: "`vendors.yaml`",
    known: &["version", "vendors"],
    unsupported: &[],
};
const VENDOR: Shape = Shape {
    what: "a vendor",
    known: &[
        "title",
        "provides",
        "sla",
        "change_notice",
        "fallback",
        "contacts",
        "last_drill",
        "drill_every",
    ],
    unsupported: &[
        ("url", "an address, which stands in settings.yaml"),
        ("token", "a secret, which stands in a file of its own"),
    ],
};
const SLA: Shape = Shape {
    what: "`sla`",
    known: &["availability", "restored_within", "source"],
    unsupported: &[],
};

/// Reads the text of a `vendors.yaml`; `file` is named in findings.
pub(crate) fn read_vendors(file: &str, text: &str) -> Result<Vendors, Vec<Finding>> {
    let root = yaml::read(file, text)?;
    let mut reader = Reader::new(file);
    let Some(fields) = reader.fields(&root, &FILE) else {
        return Err(reader.findings);
    };
    let version = reader.version(&fields);
    let by_name = reader.named(&fields, ("vendors", "a vendor"), MAX_VENDORS, read_vendor);
    match version {
        Some(version) if reader.findings.is_empty() => Ok(Vendors {
            version,
            by_name,
            digest: sha256(text.as_bytes()),
        }),
        _ => Err(reader.findings),
    }
}

fn read_vendor(reader: &mut Reader, key: &Key, node: &Node) -> Option<Vendor> {
    let fields = reader.fields(node, &VENDOR)?;
    let title = reader.required_text(&fields, "title");
    let provides = reader.required_name(&fields, "provides");
    let sla = reader
        .required(&fields, "sla")
        .and_then(|node| read_sla(reader, node));
    let change_notice = reader.required_duration(&fields, "change_notice", Duration::from_secs(1));
    let fallback = fields.get("fallback").map(|node| {
        let text = reader.text(node, "fallback").unwrap_or_default();
        reader.check_name(&text, node.place, "a vendor");
        text
    });
    let contacts = read_contacts(reader, &fields);
    let last_drill = fields.get("last_drill").map(|node| read_day(reader, node));
    let drill_every = fields
        .get("drill_every")
        .map(|node| reader.duration(node, "drill_every", Duration::from_hours(24)));
    Some(Vendor {
        name: key.text.clone(),
        title: title?,
        provides: provides?,
        sla: sla?,
        change_notice: change_notice?,
        fallback,
        contacts,
        last_drill: last_drill.flatten(),
        drill_every: drill_every.flatten(),
        place: key.place,
    })
}

fn read_sla(reader: &mut Reader, node: &Node) -> Option<Sla> {
    let fields = reader.fields(node, &SLA)?;
    let availability = reader.required_text(&fields, "availability");
    let restored_within =
        reader.required_duration(&fields, "restored_within", Duration::from_secs(1));
    let source = reader.required_text(&fields, "source");
    Some(Sla {
        availability: availability?,
        restored_within: restored_within?,
        source: source?,
    })
}

fn read_contacts(reader: &mut Reader, fields: &Fields<'_>) -> Vec<String> {
    let Some(node) = reader.required(fields, "contacts") else {
        return Vec::new();
    };
    let items = reader.list(node, "`contacts`").unwrap_or_default();
    if items.is_empty() || items.len() > MAX_CONTACTS {
        let message = format!("`contacts` names {}", items.len());
        let remedy = format!("name 1 to {MAX_CONTACTS}, for example [\"tel:+49-555-0100\"]");
        reader.error(node.place, "bad-contacts", message, remedy);
    }
    let texts = items
        .iter()
        .filter_map(|item| reader.text(item, "contacts"));
    texts.collect()
}

fn read_day(reader: &mut Reader, node: &Node) -> Option<Date> {
    let text = reader.text(node, "last_drill")?;
    let day = text.parse::<Date>();
    if day.is_err() {
        let message = format!("`{}` is no day", text.escape_debug());
        reader.error(node.place, "bad-day", message, "write it as 2026-11-23");
    }
    day.ok()
}
