"""Cameras of four makers, which write different tags in different ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from PIL.ExifTags import GPS, Base

from tools.pictures import Camera, degrees, ratio

PHONE: Final = Camera(
    base={
        Base.Make: "Apple",
        Base.Model: "iPhone 12",
        Base.Software: "17.4.1",
        Base.DateTime: "2024:06:21 23:41:07",
    },
    detail={
        Base.DateTimeOriginal: "2024:06:21 23:41:07",
        Base.DateTimeDigitized: "2024:06:21 23:41:07",
        Base.SubsecTimeOriginal: "481",
        Base.SubsecTimeDigitized: "481",
        Base.OffsetTime: "+03:00",
        Base.OffsetTimeOriginal: "+03:00",
        Base.OffsetTimeDigitized: "+03:00",
        Base.ExposureTime: ratio("1/125"),
        Base.FNumber: ratio("8/5"),
        Base.ISOSpeedRatings: 32,
        Base.ExposureBiasValue: ratio("0"),
        Base.FocalLength: ratio("21/5"),
        Base.FocalLengthIn35mmFilm: 26,
        Base.Flash: 0x10,
        Base.LensMake: "Apple",
        Base.LensModel: "iPhone 12 back camera 4.2mm f/1.6",
    },
    place={
        GPS.GPSLatitudeRef: "N",
        GPS.GPSLatitude: degrees(60.169857),
        GPS.GPSLongitudeRef: "E",
        GPS.GPSLongitude: degrees(24.938379),
        GPS.GPSAltitudeRef: b"\0",
        GPS.GPSAltitude: ratio("123/10"),
        GPS.GPSImgDirection: ratio("451/4"),
        GPS.GPSDateStamp: "2024:06:21",
        GPS.GPSTimeStamp: (ratio("20"), ratio("41"), ratio("6")),
    },
    facts={
        "taken_at": "2024-06-21T23:41:07.481+03:00",
        "digitized_at": "2024-06-21T23:41:07.481+03:00",
        "modified_at": "2024-06-21T23:41:07+03:00",
        "camera_make": "Apple",
        "camera_model": "iPhone 12",
        "lens_make": "Apple",
        "lens_model": "iPhone 12 back camera 4.2mm f/1.6",
        "software": "17.4.1",
        "exposure_seconds": 0.008,
        "exposure_bias_ev": 0.0,
        "f_number": 1.6,
        "iso": 32,
        "focal_length_mm": 4.2,
        "focal_length_35mm": 26.0,
        "flash_fired": False,
    },
    location={
        "latitude": 60.169857,
        "longitude": 24.938379,
        "altitude_metres": 12.3,
        "direction_degrees": 112.75,
        "taken_at": "2024-06-21T20:41:06Z",
    },
)
"""Has a time zone and a location."""

REFLEX: Final = Camera(
    base={
        Base.Make: "Canon",
        Base.Model: "Canon EOS 80D",
        Base.DateTime: "2019:12:31 23:59:58",
        Base.Artist: "",
        Base.Copyright: "  ",
    },
    detail={
        Base.DateTimeOriginal: "2019:12:31 23:59:58",
        Base.DateTimeDigitized: "2019:12:31 23:59:58",
        Base.SubsecTime: "07",
        Base.SubsecTimeOriginal: "07",
        Base.SubsecTimeDigitized: "07",
        Base.ExposureTime: ratio("13/10"),
        Base.FNumber: ratio("4"),
        Base.ISOSpeedRatings: 1600,
        Base.ExposureBiasValue: ratio("-1/3"),
        Base.FocalLength: ratio("35"),
        Base.Flash: 0x09,
        Base.LensModel: "EF-S18-135mm f/3.5-5.6 IS USM",
        Base.BodySerialNumber: "012345678901",
        Base.MakerNote: bytes(range(64)),
    },
    facts={
        "taken_at": "2019-12-31T23:59:58.07",
        "digitized_at": "2019-12-31T23:59:58.07",
        "modified_at": "2019-12-31T23:59:58.07",
        "camera_make": "Canon",
        "camera_model": "Canon EOS 80D",
        "lens_model": "EF-S18-135mm f/3.5-5.6 IS USM",
        "exposure_seconds": 1.3,
        "exposure_bias_ev": -0.333333333,
        "f_number": 4.0,
        "iso": 1600,
        "focal_length_mm": 35.0,
        "flash_fired": True,
    },
)
"""Has no time zone and no location; has a maker's note, which is not parsed."""

SYSTEM: Final = Camera(
    base={
        Base.Make: "NIKON CORPORATION\0\0",
        Base.Model: "NIKON D3300   ",
        Base.Software: "Ver.1.01 ",
        Base.DateTime: "2015:02:28 06:07:08",
    },
    detail={
        Base.DateTimeOriginal: "2015:02:28 06:07:08",
        Base.DateTimeDigitized: "2015:02:28 06:07:08",
        Base.SubsecTimeOriginal: "40",
        Base.ExposureTime: ratio("10/4000"),
        Base.FNumber: ratio("56/10"),
        Base.ISOSpeedRatings: 100,
        Base.ExposureBiasValue: ratio("4/6"),
        Base.FocalLength: ratio("350/10"),
        Base.FocalLengthIn35mmFilm: 52,
        Base.Flash: 0,
    },
    place={
        GPS.GPSLatitudeRef: "S",
        GPS.GPSLatitude: degrees(33.447487),
        GPS.GPSLongitudeRef: "W",
        GPS.GPSLongitude: degrees(70.673676),
        GPS.GPSMapDatum: "WGS-84",
    },
    facts={
        "taken_at": "2015-02-28T06:07:08.40",
        "digitized_at": "2015-02-28T06:07:08",
        "modified_at": "2015-02-28T06:07:08",
        "camera_make": "NIKON CORPORATION",
        "camera_model": "NIKON D3300",
        "software": "Ver.1.01",
        "exposure_seconds": 0.0025,
        "exposure_bias_ev": 0.666666667,
        "f_number": 5.6,
        "iso": 100,
        "focal_length_mm": 35.0,
        "focal_length_35mm": 52.0,
        "flash_fired": False,
    },
    location={"latitude": -33.447487, "longitude": -70.673676},
)
"""Pads its texts, does not reduce its fractions; located south and west."""

COMPACT: Final = Camera(
    base={
        Base.Make: "OLYMPUS IMAGING CORP.  ",
        Base.Model: "E-M10",
        Base.DateTime: "0000:00:00 00:00:00",
    },
    detail={
        Base.DateTimeOriginal: "    :  :     :  :  ",
        Base.ExposureTime: ratio("1/60"),
        Base.ISOSpeedRatings: 0,
        Base.FocalLength: ratio("0"),
        Base.Flash: 0x19,
    },
    facts={
        "camera_make": "OLYMPUS IMAGING CORP.",
        "camera_model": "E-M10",
        "exposure_seconds": 0.016666667,
        "flash_fired": True,
    },
)
"""Its clock was never set; it writes unknown values as empty or 0."""

CAMERAS: Final[Mapping[str, Camera]] = {
    "phone": PHONE,
    "reflex": REFLEX,
    "system": SYSTEM,
    "compact": COMPACT,
}
