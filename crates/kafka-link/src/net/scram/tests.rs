use super::*;

fn exchange(hash: Hash, user: &str, password: &str, nonce: &str, first: &str) -> (String, Proof) {
    let begun = Begun::new(hash, user, nonce.to_owned());
    begun.answer(password, first.as_bytes()).unwrap()
}

/// RFC 7677, section 3.
#[test]
fn the_exchange_of_the_rfc_is_made_and_its_server_believed() {
    let begun = Begun::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".to_owned());
    assert_eq!(begun.first_message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let first =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let (last, proof) = begun.answer("pencil", first.as_bytes()).unwrap();
    assert_eq!(
        last,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    let signature = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(proof.check(signature.as_bytes()), Ok(()));
    assert_eq!(proof.check(format!("{signature},x=1").as_bytes()), Ok(()));
    for wrong in [
        "v=",
        "v=AAAA",
        "",
        "v",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95GA=",
    ] {
        assert!(proof.check(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let refused = proof.check(b"e=other-error").unwrap_err();
    assert!(refused.contains("other-error"), "{refused}");
}

/// Made with Python's `hashlib` and `hmac`.
#[test]
fn sha_512_and_names_with_commas_and_passwords_beyond_ascii() {
    let first = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=YSkVAEuxGwo=,i=8192";
    let nonce = "fyko+d2lbbFgONRv9qkxdawL";
    let (last, proof) = exchange(Hash::Sha512, "a=b,", "päss, word=", nonce, first);
    assert_eq!(
        last,
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=vDQJf3j7QLAgh97bJeZcVN1etpZszm2RNGAKQ2i7A2ZWenn90Temu9HFLVfJAvON20YMIsUAwcjxXuUIyej/WA=="
    );
    let signature = "v=0hEWkWXKY+4vEhqWjNkbE1GZ41ETY2FID1BQVS1Btl7AIMKp0XA4gS5uG1lw2BU2BgtTcum8W3MNbionWasnTw==";
    assert_eq!(proof.check(signature.as_bytes()), Ok(()));
}

#[test]
fn a_server_that_asks_for_too_little_or_too_much_gets_no_proof() {
    for (first, why) in [
        ("r=other,s=AAAA,i=4096", "nonce"),
        ("r=ours,s=AAAA,i=4096", "nonce"),
        ("r=oursx,s=AAAA,i=4095", "iterations"),
        ("r=oursx,s=AAAA,i=600001", "iterations"),
        ("r=oursx,s=AAAA,i=-1", "iterations"),
        ("r=oursx,s=,i=4096", "salt"),
        ("r=oursx,s=*,i=4096", "salt"),
        ("m=x,r=oursx,s=AAAA,i=4096", "`r=`"),
        ("r=oursx,i=4096", "`s=`"),
        ("", "`r=`"),
    ] {
        let begun = Begun::new(Hash::Sha256, "user", "ours".to_owned());
        let refused = begun
            .answer("secret", first.as_bytes())
            .map(|_| ())
            .unwrap_err();
        assert!(refused.contains(why), "{first}: {refused}");
        assert!(!refused.contains("secret"));
    }
    let begun = Begun::new(Hash::Sha256, "user", "ours".to_owned());
    assert!(begun.answer("p", &[b'r'; 5_000]).is_err());
}
