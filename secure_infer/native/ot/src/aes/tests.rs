use super::*;

fn block(hex: &str) -> u128 {
    u128::from_str_radix(hex, 16).unwrap().swap_bytes()
}

#[test]
fn aes_fips_197_appendix_b_and_c1_match() {
    // FIPS 197, appendix B and appendix C.1.
    for (key, plain, cipher) in [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "3243f6a8885a308d313198a2e0370734",
            "3925841d02dc09fbdc118597196a0b32",
        ),
        (
            "000102030405060708090a0b0c0d0e0f",
            "00112233445566778899aabbccddeeff",
            "69c4e0d86a7b0430d8cdb78070b4c55a",
        ),
    ] {
        let mut blocks = [block(plain)];
        AesKey::new(block(key)).encrypt(&mut blocks);
        assert_eq!(blocks[0], block(cipher));
        for backend in Backend::available() {
            let (domain, first) = ((block(plain) >> 64) as u64, block(plain) as u64);
            let mut stream = [0; 21];
            AesKey::new(block(key)).counter(backend, domain, first, &mut stream);
            assert_eq!(stream[0], block(cipher), "{backend:?}");
        }
    }
}

#[test]
fn key_schedule_fips_197_appendix_a1_matches() {
    let key = AesKey::new(block("2b7e151628aed2a6abf7158809cf4f3c"));
    // FIPS 197, appendix A.1: words w4..w7 and w40..w43.
    assert_eq!(key.round_keys[1], block("a0fafe1788542cb123a339392a6c7605"));
    assert_eq!(
        key.round_keys[10],
        block("d014f9a8c9ee2589e13f0cc8b6630ca6")
    );
}

/// Plaintexts of NIST SP 800-38A, F.1.1; the hashes from the formula with OpenSSL's AES.
#[test]
fn hashes_openssl_vectors_match() {
    const DOMAIN: u64 = u64::from_le_bytes(*b"sso1 tcr");
    let key = AesKey::new(block("2b7e151628aed2a6abf7158809cf4f3c"));
    let inputs = [
        "6bc1bee22e409f96e93d7e117393172a",
        "ae2d8a571e03ac9c9eb76fac45af8e51",
        "30c81c46a35ce411e5fbc1191a0a52ef",
        "f69f2445df4f9b17ad2b417be66c3710",
    ]
    .map(block);
    let hashes = [
        "ee2cbffcc1d4a3c9fbc68f75184f6380",
        "190d3caee564858e1ca95ff22b25670b",
        "f5c1e93d40d741000ab40e8ad8214c9e",
        "e6728f076368fdfbe262a01614fa5649",
    ]
    .map(block);
    let multiples = std::array::from_fn(|x| u128::from_le_bytes([x as u8; 16]));
    for backend in Backend::available() {
        let mut blocks = inputs;
        key.tmmo(backend, DOMAIN, 1000, &mut blocks);
        assert_eq!(blocks, hashes, "{backend:?}");
        let mut bits = [0];
        key.mmo_bits_of_16(backend, &inputs[..1], &multiples, &mut bits);
        assert_eq!(bits, [0x28eb], "{backend:?}");
    }
}

#[test]
fn counter_in_pieces_equals_counter_at_once() {
    let key = AesKey::new(3);
    for backend in Backend::available() {
        let mut whole = [0; 50];
        key.counter(backend, 9, 100, &mut whole);
        let mut pieces = [0; 50];
        key.counter(backend, 9, 100, &mut pieces[..7]);
        key.counter(backend, 9, 107, &mut pieces[7..]);
        assert_eq!(whole, pieces);
        let mut other_domain = [0; 50];
        key.counter(backend, 10, 100, &mut other_domain);
        assert!(whole.iter().zip(&other_domain).all(|(a, b)| a != b));
    }
}
