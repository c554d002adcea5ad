//! The key that signs checkpoints, from a PKCS#8 PEM file (`openssl genpkey -algorithm ed25519`).

use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use llm_memory_disk::Disk;

/// Reads the key; the error is for people and never holds any of the file.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Arc<SigningKey>, String> {
    let bytes = disk.read(path).map_err(|error| error.to_string())?;
    let unusable = || {
        format!(
            "signing key {}: not an Ed25519 private key in PKCS#8 PEM; make one with \
             `openssl genpkey -algorithm ed25519`",
            path.display()
        )
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable())?;
    SigningKey::from_pkcs8_pem(text).map(Arc::new).map_err(|_| unusable())
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    #[test]
    fn a_key_made_by_openssl_is_read_and_anything_else_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                   -----END PRIVATE KEY-----\n";
        OsDisk.durable_write(&path, pem.as_bytes()).unwrap();
        let key = read(&OsDisk, &path).unwrap();
        // The first test vector of RFC 8032.
        assert_eq!(key.verifying_key().as_bytes()[..4], [0xd7, 0x5a, 0x98, 0x01]);
        OsDisk.durable_write(&path, b"SECRET").unwrap();
        let message = read(&OsDisk, &path).unwrap_err();
        assert!(!message.contains("SECRET") && message.contains("openssl"), "{message}");
    }
}
