#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::{is_temporary_name, remove_leftovers};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_and_folders_get_their_modes_whatever_the_umask() {
    let root = folder();
    // Under a umask that takes and one that gives; the umask is the process's, so both run here.
    for mask in [0o077, 0o000] {
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        let base = root.path().join(format!("{mask:o}"));
        OsDisk.create_dir_all(&base.join("a/b")).unwrap();
        OsDisk.open(&base.join("created"), OpenMode::Create).unwrap();
        OsDisk.open(&base.join("new"), OpenMode::CreateNew).unwrap();
        OsDisk.durable_write(&base.join("whole"), b"x").unwrap();
        OsDisk.durable_write_private(&base.join("secret"), b"x").unwrap();
        rustix::process::umask(before);
        for name in ["", "a", "a/b"] {
            assert_eq!(mode_of(&base.join(name)), 0o750, "{name}");
        }
        for name in ["created", "new", "whole"] {
            assert_eq!(mode_of(&base.join(name)), 0o640, "{name}");
        }
        assert_eq!(mode_of(&base.join("secret")), 0o600);
    }
}

#[test]
fn an_existing_file_keeps_its_mode_and_content_when_opened_again() {
    let root = folder();
    let path = root.path().join("file");
    fs::write(&path, b"kept").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    OsDisk.open(&path, OpenMode::Create).unwrap();
    assert_eq!(mode_of(&path), 0o600);
    assert_eq!(OsDisk.read(&path).unwrap(), b"kept");
}

#[test]
fn open_modes_create_and_refuse_as_they_say() {
    let root = folder();
    let path = root.path().join("file");
    assert!(OsDisk.open(&path, OpenMode::Read).unwrap_err().is_not_found());
    assert!(OsDisk.open(&path, OpenMode::ReadWrite).unwrap_err().is_not_found());
    let file = OsDisk.open(&path, OpenMode::CreateNew).unwrap();
    assert!(OsDisk.open(&path, OpenMode::CreateNew).unwrap_err().is_exists());
    file.write_all_at(2, b"ab").unwrap();
    file.sync().unwrap();
    let reader = OsDisk.open(&path, OpenMode::Read).unwrap();
    assert_eq!(reader.len().unwrap(), 4);
    let mut bytes = [9; 4];
    reader.read_exact_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0ab");
    assert!(reader.read_exact_at(1, &mut bytes).is_err(), "reading past the end");
    assert!(reader.write_all_at(0, b"x").is_err(), "writing to a reader");
    file.set_len(0).unwrap();
    assert!(reader.is_empty().unwrap());
}

#[test]
fn a_lock_excludes_a_second_holder_until_it_is_dropped() {
    let root = folder();
    let path = root.path().join("lock");
    let held = OsDisk.lock(&path).unwrap();
    let refused = OsDisk.lock(&path).unwrap_err();
    assert!(refused.is_locked());
    assert!(refused.to_string().contains("lock"), "{refused}");
    drop(held);
    OsDisk.lock(&path).unwrap();
}

#[test]
fn a_map_outlives_replacement_and_removal_of_its_file() {
    let root = folder();
    let path = root.path().join("file");
    OsDisk.durable_write(&path, b"first").unwrap();
    let map = OsDisk.map(&path).unwrap();
    OsDisk.durable_write(&path, b"second").unwrap();
    assert_eq!(OsDisk.map(&path).unwrap().bytes(), b"second");
    OsDisk.remove_file(&path).unwrap();
    assert_eq!(map.bytes(), b"first");
    OsDisk.durable_write(&path, b"").unwrap();
    assert_eq!(OsDisk.map(&path).unwrap().bytes(), b"");
}

#[test]
fn a_durable_write_replaces_the_inode_and_leaves_nothing_beside_it() {
    let root = folder();
    let path = root.path().join("file");
    OsDisk.durable_write(&path, b"first").unwrap();
    let first = fs::metadata(&path).unwrap().ino();
    OsDisk.durable_write(&path, b"second").unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), first);
    let names: Vec<_> =
        OsDisk.list(root.path()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["file"]);
}

#[test]
fn a_durable_write_that_cannot_rename_removes_its_temporary_file() {
    let root = folder();
    let path = root.path().join("file");
    OsDisk.create_dir_all(&path.join("in the way")).unwrap();
    OsDisk.durable_write(&path, b"x").unwrap_err();
    assert_eq!(OsDisk.list(root.path()).unwrap().len(), 1);
}

#[test]
fn leftover_temporary_files_are_removed_and_nothing_else() {
    let root = folder();
    for name in [".a.1.tmp", ".keep", "b.tmp"] {
        fs::write(root.path().join(name), b"x").unwrap();
    }
    assert_eq!(remove_leftovers(&OsDisk, root.path()).unwrap(), [".a.1.tmp"]);
    let names: Vec<_> =
        OsDisk.list(root.path()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, [".keep", "b.tmp"]);
    assert!(names.iter().all(|name| !is_temporary_name(name)));
}

#[test]
fn folders_are_listed_by_name_with_sizes_and_removed_whole() {
    let root = folder();
    OsDisk.create_dir_all(&root.path().join("b/inner")).unwrap();
    OsDisk.create_dir_all(&root.path().join("b/inner")).unwrap();
    fs::write(root.path().join("a"), b"123").unwrap();
    std::os::unix::fs::symlink("nowhere", root.path().join("broken")).unwrap();
    let entries = OsDisk.list(root.path()).unwrap();
    let seen: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.is_dir, e.len)).collect();
    assert_eq!(seen, [("a", false, 3), ("b", true, 0)]);
    OsDisk.remove_dir_all(&root.path().join("b")).unwrap();
    OsDisk.remove_dir_all(&root.path().join("b")).unwrap();
    assert!(!OsDisk.exists(&root.path().join("b")).unwrap());
    assert!(OsDisk.list(&root.path().join("b")).unwrap_err().is_not_found());
}

#[test]
fn a_rename_moves_between_folders_and_replaces() {
    let root = folder();
    OsDisk.create_dir_all(&root.path().join("to")).unwrap();
    fs::write(root.path().join("from"), b"new").unwrap();
    fs::write(root.path().join("to/name"), b"old").unwrap();
    OsDisk.durable_rename(&root.path().join("from"), &root.path().join("to/name")).unwrap();
    assert_eq!(fs::read(root.path().join("to/name")).unwrap(), b"new");
    assert!(!OsDisk.exists(&root.path().join("from")).unwrap());
}

#[test]
fn the_volume_has_a_size() {
    let space = OsDisk.space(folder().path()).unwrap();
    assert!(space.total > 0 && space.available <= space.total);
}

#[test]
fn what_is_set_aside_for_root_is_not_used() {
    let mut volume = rustix::fs::statvfs(folder().path()).unwrap();
    (volume.f_frsize, volume.f_blocks) = (10, 100);
    (volume.f_bfree, volume.f_bavail) = (80, 60);
    assert_eq!(space_of(&volume), Space { total: 800, available: 600 });
}

#[test]
fn errors_are_told_apart_and_name_the_path() {
    let full = |kind| DiskError::new("write", "/data/x", io::Error::from(kind));
    assert!(full(io::ErrorKind::StorageFull).is_no_space());
    assert!(full(io::ErrorKind::QuotaExceeded).is_no_space());
    let no_space = DiskError::new("write", "/data/x", io::Error::from_raw_os_error(28));
    assert!(no_space.is_no_space() && !no_space.is_locked() && !no_space.is_not_found());
    let quota = DiskError::new("write", "/data/x", io::Error::from_raw_os_error(122));
    assert!(quota.is_no_space());
    assert!(no_space.to_string().starts_with("cannot write /data/x: "), "{no_space}");
    let outer = io::Error::from(no_space);
    assert_eq!(outer.kind(), io::ErrorKind::StorageFull);
    assert!(outer.get_ref().unwrap().downcast_ref::<DiskError>().unwrap().is_no_space());
}
