//! What drills there are: what each does to the sandbox, which class of incident answers, and what it needs.

use serde_json::json;

use crate::output;

/// One drill.
struct Entry {
    name: &'static str,
    injects: &'static str,
    class: &'static str,
    needs: &'static str,
}

const ENTRIES: [Entry; 5] = [
    Entry {
        name: "key-compromise",
        injects: "a copied sealing key forges a seal outside, and is used in place past the service",
        class: "key-compromise",
        needs: "nothing",
    },
    Entry {
        name: "hsm-latency",
        injects: "the preferred provider of sealing keys answers late, then not at all, until it is repaired; callers go on sealing",
        class: "kms-outage",
        needs: "nothing (the sandbox has two providers of software keys, one of which misbehaves on order)",
    },
    Entry {
        name: "bad-release",
        injects: "a release of somebody's verifiers whose configuration mistakes days for seconds: good seals are called suspect",
        class: "release-regression",
        needs: "nothing (verifiers and a deployment system run beside the sandbox, on this machine)",
    },
    Entry {
        name: "vendor-outage",
        injects: "the process of the vendor that time-stamps the log is killed, and comes back when people asked for it; callers go on sealing",
        class: "vendor-failure",
        needs: "nothing (two time-stamping authorities run beside the sandbox, on this machine)",
    },
    Entry {
        name: "silent-corruption",
        injects: "a flipped bit, a cut and a removed document, a flipped bit of a seal, on the archive's disk",
        class: "data-integrity",
        needs: "nothing (an archive and a backup store are made in the sandbox)",
    },
];

/// Prints them.
pub(crate) fn print(json: bool) {
    if json {
        let drills = ENTRIES.iter().map(|it| {
            json!({ "drill": it.name, "injects": it.injects, "class": it.class, "needs": it.needs })
        });
        return output::json(&json!({ "drills": drills.collect::<Vec<_>>() }));
    }
    for it in &ENTRIES {
        output::line(it.name);
        output::line(&format!("  injects:     {}", it.injects));
        output::line(&format!("  answered by: class {} of the plan", it.class));
        output::line(&format!("  needs:       {}", it.needs));
    }
    output::line("");
    output::line(
        "Each runs in a sandbox of its own; with --nats URL over a NATS server that holds no production streams.",
    );
}
