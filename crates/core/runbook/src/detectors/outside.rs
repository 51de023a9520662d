//! Reads `outside` of `detectors.yaml`: what labels of outside sources mean.

use std::collections::BTreeMap;

use super::detector::OutsideRule;
use crate::fields::{Fields, Reader, Shape};
use crate::yaml::Node;

/// The most rules.
const MAX_RULES: usize = 256;

pub(super) const OUTSIDE: Shape = Shape {
    what: "a rule for outside sources",
    known: &["labels", "class", "about"],
    unsupported: &[],
};
pub(super) fn read_outside(reader: &mut Reader, fields: &Fields<'_>) -> Vec<OutsideRule> {
    let Some(node) = fields.get("outside") else {
        return Vec::new();
    };
    let items = reader.list(node, "`outside`").unwrap_or_default();
    if items.len() > MAX_RULES {
        let message = format!("`outside` has {} rules", items.len());
        let remedy = format!("at most {MAX_RULES} are read");
        reader.error(node.place, "too-many", message, remedy);
        return Vec::new();
    }
    let rules: Vec<Option<OutsideRule>> = items
        .iter()
        .map(|item| read_outside_rule(reader, item))
        .collect();
    rules.into_iter().flatten().collect()
}

fn read_outside_rule(reader: &mut Reader, node: &Node) -> Option<OutsideRule> {
    let fields = reader.fields(node, &OUTSIDE)?;
    let class = reader.required_name(&fields, "class");
    let about = match fields.get("about") {
        Some(node) => reader.text(node, "about")?,
        None => String::new(),
    };
    let given = reader.required(&fields, "labels")?;
    let entries = reader.entries(given, "`labels`")?;
    let mut labels = BTreeMap::new();
    for (key, value) in entries {
        labels.insert(key.text.clone(), reader.text(value, "labels")?);
    }
    if labels.is_empty() {
        let message = "the rule names no label, so it would mean every alert".to_owned();
        let remedy = "name one, for example {alertname: HsmDown}; `*` is any value";
        reader.error(given.place, "empty", message, remedy);
    }
    Some(OutsideRule {
        labels,
        class: class?,
        about,
        place: node.place,
    })
}
