//! The text under which a public postmortem goes out.
//!
//! ```text
//! sealwarden postmortem v1
//! installation: acme
//! environment: production
//! incident: inc-1
//! version: 2
//! text: sha256:<64 hex>
//! decision: publish
//! approver: ada
//! ```
//!
//! It follows from the facts alone, so whoever checks it writes it anew and compares.

use sealwarden_wire::event::v1::PostmortemRecorded;

use crate::approval::Environment;

/// The role of the roster that may let a postmortem go out.
pub const APPROVER_ROLE: &str = "legal-counsel";

/// What `approver` signs so that this postmortem may go out.
pub fn publication_statement(
    installation: &str,
    environment: Environment,
    incident: &str,
    recorded: &PostmortemRecorded,
    approver: &str,
) -> String {
    let PostmortemRecorded {
        version, sha256, ..
    } = recorded;
    format!(
        "sealwarden postmortem v1\ninstallation: {installation}\nenvironment: {environment}\nincident: {incident}\n\
         version: {version}\ntext: sha256:{sha256}\ndecision: publish\napprover: {approver}\n"
    )
}
