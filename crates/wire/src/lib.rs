//! Generated protobuf: the events of an installation and its gRPC services. The `.proto` files carry the documentation.
//!
//! **Invariant:** nothing here is written by hand except the module tree below; the event messages *are* the domain's events.

// The comments come from the `.proto` files, which are not written for rustdoc.
#![allow(rustdoc::invalid_html_tags, rustdoc::bare_urls)]

/// Events: what the event log stores.
pub mod event {
    /// Version 1; it only ever grows.
    pub mod v1 {
        tonic::include_proto!("sealwarden.event.v1");
    }
}

macro_rules! service {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $name {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    };
}

service!(
    /// Sealing over gRPC.
    seal,
    "sealwarden.seal.v1"
);
service!(
    /// Verification over gRPC.
    verify,
    "sealwarden.verify.v1"
);
service!(
    /// Archives over gRPC.
    archive,
    "sealwarden.archive.v1"
);
service!(
    /// Signals and incidents over gRPC.
    incident,
    "sealwarden.incident.v1"
);
service!(
    /// Runs and approvals over gRPC.
    run,
    "sealwarden.run.v1"
);
service!(
    /// The installation's state over gRPC.
    control,
    "sealwarden.control.v1"
);

/// The descriptor set of all packages, for gRPC reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
