//! Settings of the video archive, under the names that the server knows.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The video archive. Fields left out keep the server's defaults.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.encoder) || self.encoder != 'software' || !has(self.hwaccel) || self.hwaccel in ['auto', 'none']")
        .message("video.hwaccel names hardware, but video.encoder is software: choose encoder auto or hardware, or hwaccel none"),
    validation = Rule::new("!has(self.crf) || !has(self.codec) || !(self.codec in ['h264', 'h265']) || self.crf <= 51")
        .message("video.crf must be at most 51, the worst that h264 and h265 know: lower it, or choose codec av1"),
)]
pub struct VideoSpec {
    /// Which kind of encoder is taken. Left out: software when gpu.mode is Disabled, hardware
    /// when Required, auto when Preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<VideoEncoder>,
    /// Codec of the archive. Left out: H.265 or H.264 where hardware encodes it, else FFV1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<VideoCodec>,
    /// Constant rate factor of the lossy codecs; h264 and h265 know none over 51.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub crf: Option<i32>,
    /// Speed against size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<VideoPreset>,
    /// Which hardware is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hwaccel: Option<HardwareAcceleration>,
    /// Error correction of the QR symbols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qr_error_correction: Option<ErrorCorrection>,
}

/// Defines an enum whose words are those of the server's settings.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The server's word for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}
pub(super) use words;

words! {
    /// Kind of encoder.
    VideoEncoder {
        /// Hardware where there is some.
        Auto = "auto",
        /// Hardware.
        Hardware = "hardware",
        /// Software.
        Software = "software",
    }
}

words! {
    /// Codec of the archive.
    VideoCodec {
        /// FFV1, lossless.
        Ffv1 = "ffv1",
        /// AV1.
        Av1 = "av1",
        /// H.264.
        H264 = "h264",
        /// H.265.
        H265 = "h265",
    }
}

words! {
    /// Speed against size.
    VideoPreset {
        /// Fastest, largest.
        Ultrafast = "ultrafast",
        /// Very much faster than medium.
        Superfast = "superfast",
        /// Much faster than medium.
        Veryfast = "veryfast",
        /// Faster than fast.
        Faster = "faster",
        /// Faster than medium.
        Fast = "fast",
        /// Between speed and size.
        Medium = "medium",
        /// Slower than medium.
        Slow = "slow",
        /// Much slower than medium.
        Slower = "slower",
        /// Slowest, smallest.
        Veryslow = "veryslow",
    }
}

words! {
    /// Interface to the hardware.
    HardwareAcceleration {
        /// Whatever is there.
        Auto = "auto",
        /// None.
        None = "none",
        /// NVIDIA.
        Nvenc = "nvenc",
        /// VA-API.
        Vaapi = "vaapi",
        /// Intel Quick Sync.
        Qsv = "qsv",
    }
}

words! {
    /// Error correction level of QR symbols.
    ErrorCorrection {
        /// About 7 % of a symbol may be lost.
        Low = "L",
        /// About 15 %.
        Medium = "M",
        /// About 25 %.
        Quartile = "Q",
        /// About 30 %.
        High = "H",
    }
}
