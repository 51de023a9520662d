//! The plan that comes along: the sample organisation and its runbooks, as they stand in `runbooks/`.

/// The files of the shipped plan: name and text, in the order in which a person reads them.
pub const SHIPPED: [(&str, &str); 14] = [
    ("plan.yaml", include_str!("../../../../runbooks/plan.yaml")),
    (
        "roster.yaml",
        include_str!("../../../../runbooks/roster.yaml"),
    ),
    (
        "key-compromise.yaml",
        include_str!("../../../../runbooks/key-compromise.yaml"),
    ),
    (
        "data-integrity.yaml",
        include_str!("../../../../runbooks/data-integrity.yaml"),
    ),
    (
        "kms-outage.yaml",
        include_str!("../../../../runbooks/kms-outage.yaml"),
    ),
    (
        "bad-release.yaml",
        include_str!("../../../../runbooks/bad-release.yaml"),
    ),
    (
        "vendor-failure.yaml",
        include_str!("../../../../runbooks/vendor-failure.yaml"),
    ),
    (
        "revoke-key.yaml",
        include_str!("../../../../runbooks/revoke-key.yaml"),
    ),
    (
        "destroy-key.yaml",
        include_str!("../../../../runbooks/destroy-key.yaml"),
    ),
    (
        "restore-key.yaml",
        include_str!("../../../../runbooks/restore-key.yaml"),
    ),
    (
        "certificate-expiring.yaml",
        include_str!("../../../../runbooks/certificate-expiring.yaml"),
    ),
    (
        "regimes.yaml",
        include_str!("../../../../runbooks/regimes.yaml"),
    ),
    (
        "detectors.yaml",
        include_str!("../../../../runbooks/detectors.yaml"),
    ),
    (
        "vendors.yaml",
        include_str!("../../../../runbooks/vendors.yaml"),
    ),
];
