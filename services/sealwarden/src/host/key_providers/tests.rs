use super::*;

fn pkcs11(name: &str, label: &str) -> ProviderSettings {
    ProviderSettings {
        module: Some("/lib/hsm.so".into()),
        token: Some(label.to_owned()),
        pin_file: Some("/etc/pin".into()),
        ..ProviderSettings::new(name, Kind::Pkcs11)
    }
}

fn transit(name: &str) -> ProviderSettings {
    ProviderSettings {
        url: Some("https://bao:8200".to_owned()),
        ca_file: Some("/etc/ca.pem".into()),
        token_file: Some("/etc/token".into()),
        ..ProviderSettings::new(name, Kind::Transit)
    }
}

fn list(providers: Vec<ProviderSettings>) -> KeySettings {
    KeySettings { providers }
}

#[test]
fn a_list_of_different_providers_is_taken_in_its_order() {
    let software = ProviderSettings::new("software", Kind::Software);
    let settings = list(vec![pkcs11("hsm", "a"), transit("bao"), software]);
    settings.validate().unwrap();
    assert_eq!(settings.with(None).unwrap(), settings);
}

#[test]
fn what_cannot_be_used_is_named_with_the_remedy() {
    let software = || ProviderSettings::new("software", Kind::Software);
    for (providers, wanted) in [
        (
            vec![pkcs11("a", "t"), pkcs11("b", "t")],
            "a and b are the same place, so one key would have two roles",
        ),
        (
            vec![
                transit("a"),
                ProviderSettings {
                    url: Some("https://bao:8200/".to_owned()),
                    mount: Some("transit".to_owned()),
                    ..transit("b")
                },
            ],
            "a and b are the same place",
        ),
        (
            vec![ProviderSettings {
                pin_file: None,
                ..pkcs11("hsm", "t")
            }],
            "pin_file is missing",
        ),
        (
            vec![ProviderSettings {
                token_file: None,
                ..transit("bao")
            }],
            "give token_file, or role_id and secret_id_file",
        ),
        (
            vec![ProviderSettings {
                role_id: Some("r".to_owned()),
                ..transit("bao")
            }],
            "keep one",
        ),
        (
            vec![ProviderSettings {
                url: Some("https://x".to_owned()),
                ..pkcs11("hsm", "t")
            }],
            "url does not go with kind pkcs11",
        ),
        (
            vec![ProviderSettings {
                deadline_ms: 1,
                ..software()
            }],
            "deadline_ms 1 is not within 10",
        ),
        (
            vec![ProviderSettings {
                name: "mine".to_owned(),
                ..software()
            }],
            "name it so, or give it another dir",
        ),
        (
            vec![ProviderSettings {
                dir: Some("/other".into()),
                ..software()
            }],
            "choose another name",
        ),
    ] {
        let error = list(providers).validate().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn flags_and_a_list_together_are_refused() {
    let both = list(vec![transit("bao")]).with(Some(pkcs11("pkcs11", "t")));
    let error = both.unwrap_err().to_string();
    assert!(error.contains("leave the flags out"), "{error}");
    let flags = KeySettings::default().with(Some(pkcs11("pkcs11", "t")));
    assert_eq!(flags.unwrap().providers.len(), 1);
}
