//! Measuring: each figure has its name, its limit and its ratio, and a debug build is refused.

use sealwarden_tests::{Installation, sealwarden};

#[test]
fn benches_name_their_figures_and_limits() {
    let here = Installation::new();
    let refused = sealwarden(here.home(), &["bench", "sweep", "--json"]);
    refused.must_end_with(4);
    for (what, names) in [
        ("sweep", &["sweep.ratio"][..]),
        ("refold", &["refold", "refold.embedded"]),
        ("detect", &["detect.rate", "detect.latency"]),
    ] {
        let arguments = ["bench", what, "--seconds", "1", "--allow-debug", "--json"];
        let measured = sealwarden(here.home(), &arguments).good();
        let figures = measured["figures"].as_array().expect("figures");
        let found: Vec<_> = figures.iter().map(|it| it["name"].as_str()).collect();
        let named: Vec<_> = names.iter().map(|it| Some(*it)).collect();
        assert_eq!(found, named, "{measured}");
        for figure in figures {
            for number in ["value", "limit", "ratio"] {
                let value = figure[number].as_f64().expect("a number");
                assert!(value > 0.0, "{number} of {figure}");
            }
            assert!(figure["unit"].is_string(), "{figure}");
        }
    }
}
