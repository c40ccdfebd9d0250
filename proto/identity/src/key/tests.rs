//! Tests of key pairs, beside `private.rs` and `public.rs`.

use super::*;

#[test]
fn every_type_signs_and_reads_back_from_pkcs8() {
    for key_type in KeyType::ALL {
        let key = PrivateKey::generate(key_type).unwrap();
        assert_eq!(key.key_type(), key_type);
        assert_eq!(key.public_key().key_type(), Some(key_type));
        let signature = key.sign(b"message").unwrap();
        key.public_key().verify(b"message", &signature).unwrap();
        assert_eq!(key.public_key().verify(b"massage", &signature), Err(KeyError::Verify));

        let again = PrivateKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.pkcs8(), key.pkcs8());
        again.public_key().verify(b"message", &again.sign(b"message").unwrap()).unwrap();

        let public = PublicKey::from_spki_der(key.public_key().spki_der()).unwrap();
        assert_eq!(&public, key.public_key());
    }
}

#[test]
fn our_pkcs8_is_what_the_crypto_library_exports() {
    for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
        let document = EcdsaKeyPair::generate(algorithm).unwrap().to_pkcs8v1().unwrap();
        let key = PrivateKey::from_pkcs8(document.as_ref()).unwrap();
        assert_eq!(key.pkcs8(), document.as_ref());
    }
}

#[test]
fn spki_and_key_id_are_what_rcgen_makes_of_the_same_key() {
    use rcgen::PublicKeyData as _;
    for key_type in KeyType::ALL {
        let key = PrivateKey::generate(key_type).unwrap();
        let other = rcgen::KeyPair::try_from(key.pkcs8()).unwrap();
        assert_eq!(key.public_key().spki_der(), other.subject_public_key_info());
        assert_eq!(key.public_key().key_bits(), other.der_bytes());
    }
}

#[test]
fn a_private_key_prints_nothing_of_itself() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let shown = format!("{key:?}");
    assert_eq!(
        shown,
        format!("PrivateKey(secret of PublicKey(EcP256, {}))", crate::hex::encode(&key.public_key().subject_key_id()))
    );
}

#[test]
fn keys_outside_the_list_are_refused_by_their_name_alone() {
    // ATK-05: id-ecPublicKey on P-224 (1.3.132.0.33), with rubbish where the key would be.
    let p224 = [0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x21];
    let spki = der::nested(der::SEQUENCE, &[&p224, &der::element(der::BIT_STRING, &[0, 4, 1, 2])]);
    assert_eq!(PublicKey::from_spki_der(&spki), Err(KeyError::UnsupportedAlgorithm));
    let pkcs8 = der::nested(der::SEQUENCE, &[&[2, 1, 0], &p224, &der::element(der::OCTET_STRING, &[1, 2])]);
    assert_eq!(PrivateKey::from_pkcs8(&pkcs8).unwrap_err(), KeyError::UnsupportedAlgorithm);
    assert_eq!(PrivateKey::from_pkcs8(b"").unwrap_err(), KeyError::NotPkcs8);
    assert_eq!(PrivateKey::from_pkcs8(&[0x30; 9000]).unwrap_err(), KeyError::NotPkcs8);
}

#[test]
fn rsa_keys_that_are_short_long_or_odd_are_refused() {
    let modulus = |bits: usize| {
        let mut digits = vec![0xff; bits / 8];
        digits[0] = 0x80;
        digits
    };
    assert!(PublicKey::from_rsa_parts(&modulus(2048), &[1, 0, 1]).is_ok());
    assert!(PublicKey::from_rsa_parts(&modulus(8192), &[3]).is_ok());
    for (bits, exponent) in
        [(2040, &[1, 0, 1][..]), (8200, &[1, 0, 1]), (16_384, &[1, 0, 1]), (2048, &[1]), (2048, &[2])]
    {
        assert_eq!(PublicKey::from_rsa_parts(&modulus(bits), exponent), Err(KeyError::RsaSize { bits }));
    }
}

#[test]
fn a_public_key_with_bytes_left_over_or_a_compressed_point_is_refused() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let mut spki = key.public_key().spki_der().to_vec();
    spki.push(0);
    assert_eq!(PublicKey::from_spki_der(&spki), Err(KeyError::NotSubjectPublicKeyInfo));
    let mut point = key.public_key().key_bits()[..33].to_vec();
    point[0] = 2;
    assert_eq!(PublicKey::from_ec_point(PublicKeyKind::EcP256, &point), Err(KeyError::NotSubjectPublicKeyInfo));
}

#[test]
fn key_types_print_what_they_parse() {
    for key_type in KeyType::ALL {
        assert_eq!(key_type.to_string().parse(), Ok(key_type));
    }
    assert!("EC-P256".parse::<KeyType>().is_err());
    assert!("rsa-1024".parse::<KeyType>().is_err());
}
