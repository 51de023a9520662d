//! An installation's trial plan with a class and a runbook of the test's own.

use crate::installation::Installation;
use crate::people;

/// Writes a runbook, and the class of incidents that it answers, into the plan of an installation that has been up once. Both have this name.
pub fn with_runbook(here: &Installation, name: &str, steps: &str) {
    let folder = here.data().join("plan");
    let plan = folder.join("plan.yaml");
    let text = std::fs::read_to_string(&plan).expect("the plan");
    let class = format!(
        "classes:\n  {name}:\n    title: An incident of the test\n    severity: low\n    runbook: {name}\n    targets: {{detect: 1m, contain: 1h, recover: 24h}}\n"
    );
    std::fs::write(&plan, text.replacen("classes:\n", &class, 1)).expect("the plan");
    let runbook = format!(
        "runbook: {name}\nversion: 1\nclass: {name}\ntitle: A runbook of the test\nsteps:\n{steps}"
    );
    std::fs::write(folder.join(format!("{name}.yaml")), runbook).expect("the runbook");
}

/// Reports an incident of a class, so that its run starts; the run's id.
pub fn begin(here: &Installation, class: &str) -> String {
    let signal = ["signal", "--class", class, "--seen", "errors since 10:00"];
    let signal = here.call(&signal).good();
    let incident = signal["incident"].as_str().expect("an incident");
    here.call(&[
        "incident",
        "classify",
        incident,
        "--class",
        class,
        "--reason",
        "seen at 10:00",
    ])
    .good();
    people::run_of_the_incident(here)
}
