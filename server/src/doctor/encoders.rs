//! FFmpeg and graphics hardware, which the video archive will use. This version has no video
//! archive, so nothing here is ever worse than a remark.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use llm_memory_disk::Disk;

use super::Finding;

/// Encoders worth naming: lossless, then the lossy ones in software, then in hardware.
const KNOWN: [&str; 11] = [
    "ffv1",
    "libsvtav1",
    "libaom-av1",
    "libx264",
    "libx265",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_vaapi",
    "hevc_vaapi",
    "h264_qsv",
];

/// Looks for FFmpeg on the path and for graphics devices.
pub(super) fn check(disk: &dyn Disk) -> Vec<Finding> {
    vec![ffmpeg(disk), gpu(disk)]
}

fn ffmpeg(disk: &dyn Disk) -> Finding {
    const CHECK: &str = "FFmpeg";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found: Option<PathBuf> = std::env::split_paths(&path)
        .map(|folder| folder.join("ffmpeg"))
        .find(|program| disk.exists(program).unwrap_or(false));
    let Some(program) = found else {
        return Finding::ok(CHECK, "not present; not needed, as this version has no video archive");
    };
    let output = Command::new(&program)
        .args(["-hide_banner", "-encoders"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let encoders = encoders(&String::from_utf8_lossy(&output.stdout));
            Finding::ok(CHECK, format!("{} with {}", program.display(), encoders.join(", ")))
        }
        _ => Finding::ok(CHECK, format!("{} does not run; not needed yet", program.display())),
    }
}

/// The known ones in the listing of `ffmpeg -encoders`, whose second column is the name.
fn encoders(listing: &str) -> Vec<&'static str> {
    let names: Vec<&str> =
        listing.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    KNOWN.into_iter().filter(|known| names.contains(known)).collect()
}

fn gpu(disk: &dyn Disk) -> Finding {
    const CHECK: &str = "GPU";
    let names = |folder: &str| {
        let entries = disk.list(Path::new(folder)).unwrap_or_default();
        entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    let is_nvidia = |name: &String| {
        name.strip_prefix("nvidia").is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let mut devices: Vec<String> = names("/dev").into_iter().filter(is_nvidia).collect();
    devices.extend(names("/dev/dri").into_iter().filter(|name| name.starts_with("renderD")));
    if devices.is_empty() {
        Finding::ok(CHECK, "not present; not needed, as this version has no video archive")
    } else {
        Finding::ok(CHECK, format!("present: {}", devices.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_are_read_from_the_name_column() {
        let listing = "Encoders:\n V..... = Video\n ------\n V....D ffv1   FFmpeg video codec #1\n \
                       V....D libx264   H.264 (libx265 is another)\n";
        assert_eq!(encoders(listing), ["ffv1", "libx264"]);
    }
}
