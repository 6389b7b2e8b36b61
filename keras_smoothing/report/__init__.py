"""Certificates as a page to read, print and pass on."""

from keras_smoothing.report.write_html import write_html as write_html
