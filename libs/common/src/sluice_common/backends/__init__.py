"""Opens the backends that the settings name, alike in every service.

A vendor's client is imported where it is opened: a process loads only those that it uses (botocore
alone costs a standalone, which needs none of it, tens of megabytes). What cannot be used at all is
a `ConfigurationError` that names its setting.
"""
