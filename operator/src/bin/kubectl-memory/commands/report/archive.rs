//! Files into one tar.gz, in memory: a report is some megabytes.

use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// Packs files below a folder named `root`.
pub(super) fn pack(root: &str, files: &[(String, String)], now: Timestamp) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or(0));
        builder.append_data(&mut header, format!("{root}/{path}"), content.as_bytes())?;
    }
    builder.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::fixtures;

    #[test]
    fn what_is_packed_comes_out_again() {
        let long = "pods/".to_owned() + &"x".repeat(200) + ".yaml";
        let files =
            [("summary.txt".to_owned(), "all well\n".to_owned()), (long.clone(), String::new())];
        let bytes = pack("mem-report", &files, fixtures::now()).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                (entry.path().unwrap().display().to_string(), content)
            })
            .collect();
        let expected = [
            ("mem-report/summary.txt".to_owned(), "all well\n".to_owned()),
            (format!("mem-report/{long}"), String::new()),
        ];
        assert_eq!(found, expected);
    }
}
