pdnsutil load-zone {{.Zone}} {{.Dir}}{{.Zone}}zone
pdnsutil import-tsig-key {{.Key.Name}} {{.Key.Algorithm}} {{.Key.Secret}}
pdnsutil set-meta {{.Zone}} TSIG-ALLOW-DNSUPDATE {{.Key.Name}}
pdnsutil set-meta {{.Zone}} SOA-EDIT-DNSUPDATE INCREASE
{{- if .Secondaries}}
pdnsutil set-kind {{.Zone}} primary
pdnsutil import-tsig-key {{.Transfer.Name}} {{.Transfer.Algorithm}} {{.Transfer.Secret}}
pdnsutil set-meta {{.Zone}} TSIG-ALLOW-AXFR {{.Transfer.Name}}
pdnsutil set-meta {{.Zone}} ALSO-NOTIFY{{range .Secondaries}} {{.Host}}{{if ne .Port "53"}}:{{.Port}}{{end}}{{end}}
pdnsutil set-meta {{.Zone}} NOTIFY-DNSUPDATE 1
{{- end}}
