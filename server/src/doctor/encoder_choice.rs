//! What the settings of the video encoder come to on this machine.

use llm_memory_disk::Disk;
use serde::Serialize;

use super::encoders::{self, Acceleration};
use crate::config::Video;

/// The encoder that archives would be written with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EncoderChoice {
    /// `video.encoder`.
    pub requested: String,
    /// `hardware` or `software`.
    pub kind: &'static str,
    /// Name of the encoder.
    pub encoder: String,
    /// The codec; of `video.codec` auto, what it comes to.
    pub codec: String,
    /// The acceleration in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hwaccel: Option<&'static str>,
    /// Why it is this one.
    pub reason: String,
    /// Whether this version writes archives at all.
    pub archive: bool,
}

/// Looks at devices and at FFmpeg; may start a process, so it blocks.
pub(crate) fn choose(disk: &dyn Disk, video: &Video) -> EncoderChoice {
    let wanted = wanted(video);
    let seen = match &wanted {
        Ok(_) => (encoders::devices(disk), encoders::available(disk)),
        Err(_) => (Vec::new(), Vec::new()),
    };
    resolve(video, wanted, &seen.0, &seen.1)
}

/// The accelerations to try, or why there are none.
fn wanted(video: &Video) -> Result<Vec<Acceleration>, String> {
    if video.encoder == "software" {
        return Err("video.encoder asks for software".to_owned());
    }
    if video.hwaccel == "none" {
        return Err("video.hwaccel is none".to_owned());
    }
    if hardware_codecs(&video.codec).is_empty() {
        return Err(format!("no hardware encodes {}", video.codec));
    }
    let named = Acceleration::ALL
        .into_iter()
        .filter(|acceleration| video.hwaccel == "auto" || video.hwaccel == acceleration.as_str());
    Ok(named.collect())
}

fn resolve(
    video: &Video,
    wanted: Result<Vec<Acceleration>, String>,
    devices: &[Acceleration],
    available: &[&str],
) -> EncoderChoice {
    let chosen = |kind, codec: &str, encoder: String, hwaccel, reason| EncoderChoice {
        requested: video.encoder.clone(),
        kind,
        encoder,
        codec: codec.to_owned(),
        hwaccel,
        reason,
        archive: false,
    };
    let software = |reason| {
        let (codec, encoder) = software(&video.codec);
        chosen("software", codec, encoder.to_owned(), None, reason)
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(reason) => return software(reason),
    };
    let mut reasons = Vec::new();
    for acceleration in wanted {
        let word = acceleration.as_str();
        if !devices.contains(&acceleration) {
            reasons.push(format!("no device for {word}"));
            continue;
        }
        for (codec, name) in hardware_codecs(&video.codec) {
            let encoder = format!("{name}_{word}");
            if available.contains(&encoder.as_str()) {
                let reason = format!("a device for {word} and FFmpeg's {encoder} are present");
                return chosen("hardware", codec, encoder, Some(word), reason);
            }
            reasons.push(format!("FFmpeg here has no {encoder}"));
        }
    }
    software(reasons.join(", "))
}

/// The codecs that hardware may encode, the better ones first, and what its encoders of them are
/// called after.
fn hardware_codecs(codec: &str) -> &'static [(&'static str, &'static str)] {
    match codec {
        "auto" => &[("h265", "hevc"), ("h264", "h264")],
        "h264" => &[("h264", "h264")],
        "h265" => &[("h265", "hevc")],
        "av1" => &[("av1", "av1")],
        _ => &[],
    }
}

/// The codec in software, and its encoder.
fn software(codec: &str) -> (&'static str, &'static str) {
    match codec {
        "h264" => ("h264", "libx264"),
        "h265" => ("h265", "libx265"),
        "av1" => ("av1", "libsvtav1"),
        // Lossless, and of all in software by far the fastest.
        _ => ("ffv1", "ffv1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(encoder: &str, codec: &str, hwaccel: &str) -> Video {
        Video {
            encoder: encoder.to_owned(),
            codec: codec.to_owned(),
            crf: 23,
            preset: "medium".to_owned(),
            hwaccel: hwaccel.to_owned(),
            qr_error_correction: "L".to_owned(),
        }
    }

    fn of(video: &Video, devices: &[Acceleration], available: &[&str]) -> EncoderChoice {
        resolve(video, wanted(video), devices, available)
    }

    #[test]
    fn hardware_is_used_where_device_and_encoder_are_there() {
        let choice = of(&video("auto", "h265", "auto"), &[Acceleration::Nvenc], &["hevc_nvenc"]);
        assert_eq!((choice.kind, choice.encoder.as_str()), ("hardware", "hevc_nvenc"));
        assert_eq!(choice.hwaccel, Some("nvenc"));
    }

    #[test]
    fn a_codec_that_is_left_open_is_what_the_hardware_knows_and_else_lossless() {
        let nvenc = [Acceleration::Nvenc];
        let choice = of(&video("auto", "auto", "auto"), &nvenc, &["h264_nvenc", "hevc_nvenc"]);
        assert_eq!((choice.codec.as_str(), choice.encoder.as_str()), ("h265", "hevc_nvenc"));
        let choice = of(&video("hardware", "auto", "auto"), &nvenc, &["h264_nvenc"]);
        assert_eq!((choice.codec.as_str(), choice.encoder.as_str()), ("h264", "h264_nvenc"));
        let choice = of(&video("auto", "auto", "nvenc"), &nvenc, &["libx265"]);
        assert_eq!((choice.codec.as_str(), choice.kind), ("ffv1", "software"));
        assert_eq!(choice.reason, "FFmpeg here has no hevc_nvenc, FFmpeg here has no h264_nvenc");
        let choice = of(&video("software", "auto", "auto"), &nvenc, &["h264_nvenc"]);
        assert_eq!((choice.codec.as_str(), choice.encoder.as_str()), ("ffv1", "ffv1"));
    }

    #[test]
    fn absent_hardware_is_software_with_the_reason() {
        let choice = of(&video("hardware", "h264", "nvenc"), &[], &["h264_nvenc"]);
        assert_eq!((choice.kind, choice.encoder.as_str()), ("software", "libx264"));
        assert_eq!(choice.reason, "no device for nvenc");
        let choice = of(&video("auto", "av1", "vaapi"), &[Acceleration::Vaapi], &[]);
        assert_eq!(choice.reason, "FFmpeg here has no av1_vaapi");
        let choice = of(&video("auto", "ffv1", "auto"), &[Acceleration::Nvenc], &[]);
        assert_eq!(
            (choice.encoder.as_str(), &*choice.reason),
            ("ffv1", "no hardware encodes ffv1")
        );
        let choice = of(&video("software", "h264", "auto"), &[Acceleration::Nvenc], &[]);
        assert_eq!(choice.reason, "video.encoder asks for software");
    }
}
