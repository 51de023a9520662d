//! What the tests share: the official schema, the shipped runbooks, small playbooks.

use std::collections::BTreeMap;
use std::path::Path;

use jsonschema::{Draft, Registry, Validator};
use sealwarden_cacao::{Importing, Origin};
use sealwarden_runbook::{Quorum, Role, Runbook};
use serde_json::{Value, json};

/// The files that `playbook.json` refers to.
const SCHEMAS: [&str; 50] = [
    "agent-target/agent-target.json",
    "agent-target/group.json",
    "agent-target/http-api.json",
    "agent-target/individual.json",
    "agent-target/linux.json",
    "agent-target/location.json",
    "agent-target/net-address.json",
    "agent-target/organization.json",
    "agent-target/sector.json",
    "agent-target/security-category.json",
    "agent-target/ssh.json",
    "authentication-info/authentication-info.json",
    "authentication-info/http-basic.json",
    "authentication-info/oauth2.json",
    "authentication-info/user-auth.json",
    "commands/bash.json",
    "commands/caldera-cmd.json",
    "commands/command-data.json",
    "commands/elastic.json",
    "commands/http-api.json",
    "commands/jupyter.json",
    "commands/kestrel.json",
    "commands/manual.json",
    "commands/openc2-http.json",
    "commands/powershell.json",
    "commands/sigma.json",
    "commands/ssh.json",
    "commands/yara.json",
    "data-markings/data-marking.json",
    "data-markings/marking-iep.json",
    "data-markings/marking-statement.json",
    "data-markings/marking-tlp.json",
    "data-types/civic-location.json",
    "data-types/contact.json",
    "data-types/external-reference.json",
    "data-types/identifier.json",
    "data-types/playbook-processing-summary.json",
    "data-types/signature.json",
    "data-types/timestamp.json",
    "data-types/variable.json",
    "extension-definition/extension-definition.json",
    "workflows/action.json",
    "workflows/end.json",
    "workflows/if-condition.json",
    "workflows/parallel.json",
    "workflows/playbook-action.json",
    "workflows/start.json",
    "workflows/switch-condition.json",
    "workflows/while-condition.json",
    "workflows/workflow-step.json",
];

#[expect(
    clippy::disallowed_methods,
    reason = "a test may read the files that it is about"
)]
fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The official schema of a playbook, as draft-07.
pub(crate) fn schema() -> Validator {
    let json = |name: &str| -> Value {
        serde_json::from_str(&file(&format!("tests/schemas/{name}"))).unwrap()
    };
    let mut registry = Registry::new();
    for name in SCHEMAS {
        let schema = json(name);
        let id = schema["$id"].as_str().unwrap().to_owned();
        registry = registry.add(id, schema).unwrap();
    }
    let registry = registry.prepare().unwrap();
    jsonschema::options()
        .with_draft(Draft::Draft7)
        .with_registry(&registry)
        .build(&json("playbook.json"))
        .unwrap()
}

/// The runbooks that ship with the product.
pub(crate) fn shipped() -> Vec<Runbook> {
    ["key-compromise.yaml"]
        .into_iter()
        .map(|name| Runbook::parse(name, &file(&format!("../../../runbooks/{name}"))).unwrap())
        .collect()
}

pub(crate) fn origin() -> Origin {
    Origin {
        created_by: Origin::identity("Example Ltd"),
        created: "2026-11-02T10:00:00.000Z".to_owned(),
        modified: "2026-11-03T10:00:00.000Z".to_owned(),
    }
}

pub(crate) fn importing() -> Importing {
    let roles = ["security-lead", "on-call-sre"].map(|role| (Role::new(role).unwrap(), 1));
    Importing {
        class: Some("key-compromise".to_owned()),
        quorum: Some(Quorum::new(BTreeMap::from(roles)).unwrap()),
        now: "2026-11-23T10:00:00Z".parse().unwrap(),
        ..Importing::default()
    }
}

/// A playbook of actions one after another: their names and commands.
pub(crate) fn linear(actions: &[(&str, Value)]) -> Value {
    let id = |kind: &str, n: usize| format!("{kind}--{n:08}-1000-4000-a000-00010001ffff");
    let agent = id("individual", 7);
    let mut workflow = serde_json::Map::new();
    let end = id("end", 99);
    workflow.insert(
        id("start", 98),
        json!({"type": "start", "name": "Start", "on_completion": id("action", 0)}),
    );
    for (n, (name, commands)) in actions.iter().enumerate() {
        let next = if n + 1 < actions.len() {
            id("action", n + 1)
        } else {
            end.clone()
        };
        workflow.insert(id("action", n), json!({"type": "action", "name": name, "commands": commands, "agent": agent, "on_completion": next}));
    }
    workflow.insert(end, json!({"type": "end"}));
    json!({
        "type": "playbook", "spec_version": "cacao-2.0", "id": id("playbook", 1), "name": "A playbook of somebody",
        "created_by": id("identity", 1), "created": "2023-11-20T15:56:00.123Z", "modified": "2023-11-20T15:56:00.123Z",
        "agent_definitions": {agent.clone(): {"type": "individual", "name": "Somebody"}},
        "workflow_start": id("start", 98), "workflow": workflow,
    })
}
