//! Sealed documents on an object store: a folder or an S3 bucket.
//!
//! ```text
//! documents/NAME             the document
//! documents/NAME.seal        its seal; documents/NAME.seal.anchors, if there are any
//! inventory/000000000001.json  pages that list what was stored; each holds the SHA-256 of the page before it
//! quarantine/<sha256 of NAME>.json  marker: the document is not to be used
//! displaced/…                what stood where a document was restored to and was no file
//! archive.json               which archive this is; where it is missing, a disk is not mounted or it is another bucket
//! ```
//! A second store holds every version that was ever stored, a copy of the inventory, and the damaged bytes that a restore replaced:
//! ```text
//! versions/NAME/@<Unix ms>-<sha256>       a document; with .seal, its seal as of then
//! inventory/…                             copies of the pages
//! damaged/NAME/@<Unix ms>-<sha256>        what stood in the archive before a restore
//! ```
//!
//! **Invariant:** documents are streamed; none is held in memory. **Invariant:** nothing of this crate decides whether a seal is good: verdicts come from
//! `sealwarden-seal`, and what a page of the inventory is worth is decided by who knows its digest. **Invariant:** what a write answered for is durable (folders: file and folder
//! synced; S3: acknowledged by the server).

mod answer;
mod backup;
mod damage;
mod displace;
mod error;
mod examine;
mod inventory;
mod limits;
mod marker;
mod meter;
mod name;
mod place;
mod presence;
mod read;
mod store;
mod walk;

pub use backup::{Version, Versions};
pub use damage::{Damage, DamageClass, Document, Found, Measured, SealFile, from_hex};
pub use error::StoreError;
pub use examine::{Examined, Examiner, Known};
pub use inventory::{
    Entry, Inventory, InventoryError, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, NO_PAGE, Page, page_key,
};
pub use marker::Marker;
pub use meter::Meter;
pub use name::{NameError, ObjectName};
pub use place::{Place, PlaceError, S3Settings};
pub use presence::{IDENTITY_KEY, Identity, Part};
pub use store::{Listed, Listing, Store, Upload};
