"""Reports of certificates as an HTML page to read, print and share."""

from keras_smoothing.report.write_html import write_html as write_html
