//! Bytes of a file changed in turn: an audit must find each change and name the file.

use std::path::Path;

use crate::binary::Answer;

/// Flips one bit in some forty places of the file, one after another, and expects `check` to end with 1 and to name the file as the first damage each time. The
/// file is whole again afterwards.
///
/// # Panics
/// If a change goes unseen, or is seen elsewhere.
pub fn are_found(path: &Path, check: impl Fn() -> Answer) {
    let good = std::fs::read(path).expect("a file");
    // Coprime with the lines of base64, so that all parts of them are met.
    let step = 1 + good.len() / 40;
    for place in (0..good.len()).step_by(step) {
        let mut bad = good.clone();
        bad[place] ^= 1;
        std::fs::write(path, &bad).expect("a changed file");
        let found = check().ends_with(1);
        let named = found.json()["first_damage"]["file"].clone();
        let named = named.as_str().expect("a file").to_owned();
        assert_eq!(Path::new(&named), path, "byte {place}: {found}");
    }
    std::fs::write(path, &good).expect("the good file");
}
