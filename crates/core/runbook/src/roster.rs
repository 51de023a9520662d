//! The roster: who may approve what, and with which keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ssh_key::public::{KeyData, SkEcdsaSha2NistP256, SkEd25519};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use crate::digest::{hex, sha256};
use crate::names::{Role, is_person_id};
use crate::quorum::Quorum;

/// The role of the people who may order a step without its quorum.
pub const BREAK_GLASS: &str = "break-glass";

/// What a key's signatures say of a person's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// A FIDO key: every signature that counts proves that somebody touched it.
    Proven,
    /// Software signs with it: it counts wherever no touch is asked for.
    Unproven,
    /// Software signs with it, and the roster lets it count also where a touch is asked for (`touch: waived`).
    Waived,
}

/// A key with which a person signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApproverKey {
    /// The OpenSSH public key, without its comment.
    pub public: PublicKey,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// Algorithm and base64, without the comment.
    pub line: String,
    /// Whether its signatures prove a touch.
    pub touch: Touch,
}

/// Somebody on the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The person's id, such as `mara.lindqvist`.
    pub id: String,
    /// The name shown to people.
    pub name: String,
    /// The roles that they have.
    pub roles: BTreeSet<Role>,
    /// The keys with which they sign; without any they cannot approve.
    pub keys: Vec<ApproverKey>,
    /// How to reach them. Not part of the roster's digest: a new telephone number voids no approval.
    pub contact: String,
}

/// A roster that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRoster {
    /// Nobody.
    #[error("the roster names nobody; add people with roles")]
    Empty,
    /// Not an id.
    #[error(
        "`{0}` cannot be a person's id: small letters, digits, `-` and `.`, at most 64, a letter first"
    )]
    Id(String),
    /// Two people with one id.
    #[error("two people have the id `{0}`; give each their own")]
    DuplicateId(String),
    /// Two people with one key: a signature would not tell them apart.
    #[error(
        "`{second}` has the key {fingerprint} that `{first}` has too; each person signs with keys of their own"
    )]
    SharedKey {
        /// Who has it first.
        first: String,
        /// Who has it too.
        second: String,
        /// The key.
        fingerprint: String,
    },
    /// Not an OpenSSH public key.
    #[error("a key of `{person}` is not an OpenSSH public key line: {reason}")]
    Key {
        /// Whose.
        person: String,
        /// Why not.
        reason: String,
    },
    /// A key of a kind that approvals are not verified with.
    #[error(
        "a key of `{person}` is {algorithm}; use ssh-ed25519, ecdsa-sha2-nistp256, sk-ssh-ed25519@openssh.com or sk-ecdsa-sha2-nistp256@openssh.com"
    )]
    Algorithm {
        /// Whose.
        person: String,
        /// Which algorithm.
        algorithm: String,
    },
    /// A FIDO key that was not made for SSH.
    #[error(
        "a key of `{person}` is bound to the application {application:?}; keys that `ssh-keygen -t ed25519-sk` makes are bound to `ssh:` or `ssh:…`"
    )]
    Application {
        /// Whose.
        person: String,
        /// For what it was made.
        application: String,
    },
    /// The roster says something of a touch that the key cannot do, or needs not.
    #[error("a key of `{person}` says `touch: {word}`, and {why}")]
    Touch {
        /// Whose.
        person: String,
        /// What the roster says.
        word: String,
        /// Why that cannot be.
        why: &'static str,
    },
    /// Nobody has this id.
    #[error("nobody on the roster has the id `{0}`")]
    Unknown(String),
}

/// Whether approvals are verified with keys of this kind: Ed25519, ECDSA P-256, and both as FIDO keys.
pub fn is_approver_algorithm(algorithm: &Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::Ed25519
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP256
            }
    )
}

/// The application that a FIDO key was made for; `None` for a key of software.
fn application(key: &KeyData) -> Option<&str> {
    key.sk_ed25519()
        .map(SkEd25519::application)
        .or_else(|| key.sk_ecdsa_p256().map(SkEcdsaSha2NistP256::application))
}

impl ApproverKey {
    /// Reads an OpenSSH public key line. `person` is named in errors.
    pub fn parse(person: &str, line: &str) -> Result<Self, BadRoster> {
        let bad = |error: ssh_key::Error| BadRoster::Key {
            person: person.to_owned(),
            reason: error.to_string(),
        };
        let mut public = PublicKey::from_openssh(line.trim()).map_err(bad)?;
        // The comment is free text of whoever made the key: it identifies nobody.
        public.set_comment("");
        if !is_approver_algorithm(&public.algorithm()) {
            let algorithm = public.algorithm().to_string();
            return Err(BadRoster::Algorithm {
                person: person.to_owned(),
                algorithm,
            });
        }
        let touch = match application(public.key_data()) {
            None => Touch::Unproven,
            Some(application) if application.starts_with("ssh:") => Touch::Proven,
            Some(application) => {
                return Err(BadRoster::Application {
                    person: person.to_owned(),
                    application: application.to_owned(),
                });
            }
        };
        let line = public.to_openssh().map_err(bad)?.trim_end().to_owned();
        let fingerprint = public.fingerprint(HashAlg::Sha256).to_string();
        Ok(Self {
            public,
            fingerprint,
            line,
            touch,
        })
    }

    /// The same key with what the roster says of its touch: `required` (it is a FIDO key, and must stay one) or `waived` (software may sign where a
    /// touch is asked for). `person` is named in errors.
    pub fn with_touch(self, person: &str, word: &str) -> Result<Self, BadRoster> {
        let bad = |why| BadRoster::Touch {
            person: person.to_owned(),
            word: word.to_owned(),
            why,
        };
        match (word, self.touch) {
            ("required", Touch::Proven) => Ok(self),
            ("required", Touch::Unproven | Touch::Waived) => {
                Err(bad("only FIDO keys (sk-…) prove a touch"))
            }
            ("waived", Touch::Unproven | Touch::Waived) => Ok(Self {
                touch: Touch::Waived,
                ..self
            }),
            ("waived", Touch::Proven) => Err(bad("a FIDO key counts only with a touch")),
            (_, Touch::Proven | Touch::Unproven | Touch::Waived) => {
                Err(bad("the words are `required` and `waived`"))
            }
        }
    }
}

/// Tells people apart while they are added one by one, so that a file's reader can name the place of each clash.
#[derive(Debug, Default)]
pub(crate) struct Register {
    ids: BTreeSet<String>,
    /// Fingerprint -> who has it: position and id.
    keys: BTreeMap<String, (usize, String)>,
}

impl Register {
    /// Adds a person, or says with whom they clash.
    pub(crate) fn add(&mut self, person: &Person) -> Result<(), BadRoster> {
        if !is_person_id(&person.id) {
            return Err(BadRoster::Id(person.id.clone()));
        }
        let index = self.ids.len();
        if !self.ids.insert(person.id.clone()) {
            return Err(BadRoster::DuplicateId(person.id.clone()));
        }
        for key in &person.keys {
            let owner = (index, person.id.clone());
            if let Some((_, first)) = self.keys.insert(key.fingerprint.clone(), owner) {
                return Err(BadRoster::SharedKey {
                    first,
                    second: person.id.clone(),
                    fingerprint: key.fingerprint.clone(),
                });
            }
        }
        Ok(())
    }
}

/// The people, checked: ids and keys tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    people: Vec<Person>,
    by_key: BTreeMap<String, usize>,
    changed_by: Option<Quorum>,
    digest: [u8; 32],
}

impl Roster {
    /// Checks people against each other.
    pub fn new(people: Vec<Person>) -> Result<Self, BadRoster> {
        if people.is_empty() {
            return Err(BadRoster::Empty);
        }
        let mut register = Register::default();
        for person in &people {
            register.add(person)?;
        }
        let by_key = register
            .keys
            .into_iter()
            .map(|(key, (index, _))| (key, index))
            .collect();
        let mut roster = Self {
            people,
            by_key,
            changed_by: None,
            digest: [0; 32],
        };
        roster.digest = sha256(roster.canonical_text().as_bytes());
        Ok(roster)
    }

    /// The same people with a quorum of their own for changes of the roster.
    #[must_use]
    pub fn with_changed_by(mut self, quorum: Option<Quorum>) -> Self {
        self.changed_by = quorum;
        self.digest = sha256(self.canonical_text().as_bytes());
        self
    }

    /// What of this roster still holds under a later one: everybody keeps the keys that are still theirs, as long as they have all the roles that they had. It
    /// keeps its digest, so statements of a run that began with it still name it.
    #[must_use]
    pub fn still(&self, now: &Self) -> Self {
        let mut people = self.people.clone();
        for person in &mut people {
            let keeps = now
                .person(&person.id)
                .is_some_and(|it| it.roles.is_superset(&person.roles));
            person.keys.retain(|key| {
                let owner = now.by_fingerprint(&key.fingerprint);
                // A key that needs a touch now needs one here, too.
                let same = owner.is_some_and(|(owner, it)| {
                    owner.id == person.id && (it.touch == key.touch || key.touch != Touch::Waived)
                });
                keeps && same
            });
        }
        let keys = people.iter().enumerate().flat_map(|(index, person)| {
            let keys = person.keys.iter();
            keys.map(move |key| (key.fingerprint.clone(), index))
        });
        Self {
            by_key: keys.collect(),
            people: people.clone(),
            changed_by: self.changed_by.clone(),
            digest: self.digest,
        }
    }

    /// The quorum that this roster names for its own changes; `None`: two people of different roles, see [`Self::assess_change`].
    pub fn changed_by(&self) -> Option<&Quorum> {
        self.changed_by.as_ref()
    }

    /// The people, in the file's order.
    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// SHA-256 of [`Self::canonical_text`]: approvals and directives are bound to it.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The digest in hexadecimal.
    pub fn digest_hex(&self) -> String {
        hex(&self.digest)
    }

    /// What the digest covers: who has which roles and keys. UTF-8, each line ends in `\n`:
    ///
    /// ```text
    /// sealwarden-roster/v1
    /// person <id>
    /// name <JSON string>
    /// role <role>                      each role, sorted
    /// key <algorithm> <base64>         each key without its comment, sorted by fingerprint
    /// touch waived                     after a key of which the roster says so
    /// changed-by <role> <count>        where it names a quorum for its own changes: each role, sorted; after everybody
    /// ```
    ///
    /// `person` to `touch` repeat for each person, sorted by id. Contacts and the file's layout are left out.
    pub fn canonical_text(&self) -> String {
        let mut text = String::from("sealwarden-roster/v1\n");
        let sorted: BTreeMap<&str, &Person> = self
            .people
            .iter()
            .map(|person| (person.id.as_str(), person))
            .collect();
        for (id, person) in sorted {
            let name = serde_json::Value::from(person.name.as_str());
            // Writing to a String cannot fail.
            let _ = write!(text, "person {id}\nname {name}\n");
            for role in &person.roles {
                let _ = writeln!(text, "role {role}");
            }
            let keys: BTreeMap<&str, &ApproverKey> = person
                .keys
                .iter()
                .map(|key| (key.fingerprint.as_str(), key))
                .collect();
            for key in keys.values() {
                let _ = writeln!(text, "key {}", key.line);
                if key.touch == Touch::Waived {
                    text.push_str("touch waived\n");
                }
            }
        }
        for (role, count) in self.changed_by.iter().flat_map(Quorum::roles) {
            let _ = writeln!(text, "changed-by {role} {count}");
        }
        text
    }

    /// The person of this id.
    pub fn person(&self, id: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.id == id)
    }

    /// Whose key this is, by its fingerprint (`SHA256:…`).
    pub fn by_fingerprint(&self, fingerprint: &str) -> Option<(&Person, &ApproverKey)> {
        let person = self.people.get(*self.by_key.get(fingerprint)?)?;
        let key = person
            .keys
            .iter()
            .find(|key| key.fingerprint == fingerprint)?;
        Some((person, key))
    }

    /// Every role that somebody has.
    pub fn roles(&self) -> BTreeSet<&Role> {
        self.people
            .iter()
            .flat_map(|person| &person.roles)
            .collect()
    }

    /// The same people with trial keys added: id -> OpenSSH public key lines. A key that the person has already is not added twice. Trial keys lie in
    /// files, and so that everything can be tried with them, those of people who may break the glass need no touch.
    pub fn with_trial_keys(
        &self,
        added: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, BadRoster> {
        let mut people = self.people.clone();
        for (id, lines) in added {
            let person = people
                .iter_mut()
                .find(|person| person.id == *id)
                .ok_or_else(|| BadRoster::Unknown(id.clone()))?;
            for line in lines {
                let mut key = ApproverKey::parse(id, line)?;
                let breaks_glass = person.roles.iter().any(|role| role.as_str() == BREAK_GLASS);
                if breaks_glass && key.touch == Touch::Unproven {
                    key.touch = Touch::Waived;
                }
                if person
                    .keys
                    .iter()
                    .all(|known| known.fingerprint != key.fingerprint)
                {
                    person.keys.push(key);
                }
            }
        }
        Ok(Self::new(people)?.with_changed_by(self.changed_by.clone()))
    }

    /// The roster as the text of a `roster.yaml` with the same digest.
    pub fn to_yaml(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut yaml = String::new();
        if let Some(quorum) = &self.changed_by {
            let roles = quorum.roles().iter();
            let roles: Vec<String> = roles
                .map(|(role, count)| format!("{role}: {count}"))
                .collect();
            // Writing to a String cannot fail.
            let _ = writeln!(yaml, "changed_by: {{{}}}", roles.join(", "));
        }
        yaml.push_str("people:\n");
        for person in &self.people {
            let roles: Vec<&str> = person.roles.iter().map(Role::as_str).collect();
            // Writing to a String cannot fail.
            let _ = write!(
                yaml,
                "  - id: {}\n    name: {}\n    roles: [{}]\n    contact: {}\n",
                person.id,
                quoted(&person.name),
                roles.join(", "),
                quoted(&person.contact),
            );
            if person.keys.is_empty() {
                yaml.push_str("    keys: []\n");
            } else {
                yaml.push_str("    keys:\n");
                for key in &person.keys {
                    let line = quoted(&key.line);
                    let _ = match key.touch {
                        Touch::Waived => {
                            writeln!(yaml, "      - {{key: {line}, touch: waived}}")
                        }
                        Touch::Proven | Touch::Unproven => writeln!(yaml, "      - {line}"),
                    };
                }
            }
        }
        yaml
    }
}
