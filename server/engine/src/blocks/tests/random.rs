//! Whatever is written, left out, reopened or changed on the disk.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_agrees_with_a_map_whatever_is_written_left_out_and_reopened(
        steps in prop::collection::vec(
            (0..4_u8, prop::collection::vec((0..5_usize, 0..40_u8, 0..3000_usize), 0..30)), 1..8)
    ) {
        let disk = FaultyDisk::new();
        let (mut store, _) = open(&disk);
        let mut expected = Bodies::new();
        for (kind, parts) in steps {
            match kind {
                0 | 1 => {
                    let bodies: Vec<_> =
                        parts.iter().map(|(item, byte, len)| (*item, vec![*byte; *len])).collect();
                    expected.extend(write(&store, &bodies).unwrap());
                }
                2 => {
                    let gone = |digest: &Digest| digest.0[0].is_multiple_of(4);
                    let done = store.rewrite_without(&gone).unwrap();
                    let before = expected.len();
                    expected.retain(|digest, _| !gone(digest));
                    prop_assert_eq!(done.left_out.len(), before - expected.len());
                }
                _ => {
                    // Everything acknowledged is durable, so a crash changes nothing.
                    let (reopened, notes) = open(&disk.crash());
                    prop_assert!(notes.is_empty(), "{:?}", notes);
                    assert_holds(&reopened, &expected);
                    let disk = Arc::clone(&reopened.shared.disk);
                    let (again, _) =
                        BlockStore::open(disk, Path::new(DIR), &cache(CACHE_BYTES), false).unwrap();
                    store = again;
                }
            }
            assert_holds(&store, &expected);
            let digests: HashSet<Digest> = store.digests().collect();
            prop_assert_eq!(digests, expected.keys().copied().collect::<HashSet<_>>());
            if kind == 3 { break; }
        }
        assert_sound(&store);
    }

    #[test]
    fn no_changed_byte_of_any_file_goes_unnoticed_or_reaches_a_reader(
        in_index in any::<bool>(),
        position in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let disk = FaultyDisk::new();
        let (store, _) = open(&disk);
        let bodies = write(&store, &texts(0..5)).unwrap();
        let name = if in_index { "segment-00000001.idx" } else { "segment-00000001.blk" };
        let len = disk.read(&Path::new(DIR).join(name)).unwrap().len();
        flip(&disk, name, position.index(len), change);
        let (store, notes) = open(&disk);
        let problems = store.verify(&NoProgress).problems;
        if in_index {
            prop_assert!(notes.iter().any(|note| note.contains(name)), "{:?}", notes);
            assert_holds(&store, &bodies);
            prop_assert!(problems.is_empty(), "derived again: {:?}", problems);
        } else {
            prop_assert!(problems.iter().any(|problem| problem.contains(name)), "{:?}", problems);
            for (digest, body) in &bodies {
                match store.read(digest) {
                    Ok(found) => prop_assert_eq!(found.as_ref(), Some(body)),
                    Err(error) => prop_assert!(error.to_string().contains(name), "{}", error),
                }
            }
        }
    }
}
