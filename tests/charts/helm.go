// Renders a chart as `helm template` does, with the engine that Helm has (Go's text/template and sprig) and the same
// functions and objects, as far as our chart uses them: no subcharts, no lookup in a cluster, no .Files but Get.
//
//	helm CHART NAMESPACE VALUES.yaml…   prints {"VALUES.yaml": {"templates/x.yaml": "…", …} or "error text", …}
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type values = map[string]interface{}

type files string

// Get is the text of a file of the chart; empty if there is none, as Helm has it.
func (f files) Get(name string) string {
	text, err := os.ReadFile(filepath.Join(string(f), name))
	if err != nil {
		return ""
	}
	return string(text)
}

func read(path string) values {
	text, err := os.ReadFile(path)
	check(err)
	out := values{}
	check(yaml.Unmarshal(text, &out))
	return out
}

// laid puts what the user said over the defaults: maps are merged, null removes, all else replaces.
func laid(base, over values) values {
	out := values{}
	for key, value := range base {
		out[key] = value
	}
	for key, value := range over {
		below, isMap := out[key].(values)
		above, both := value.(values)
		switch {
		case value == nil:
			delete(out, key)
		case isMap && both:
			out[key] = laid(below, above)
		default:
			out[key] = value
		}
	}
	return out
}

func functions(t *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	delete(all, "env") // Helm has neither
	delete(all, "expandenv")
	include := func(name string, data interface{}) (string, error) {
		var out strings.Builder
		err := t.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	all["include"] = include
	all["tpl"] = func(text string, data interface{}) (string, error) {
		inner, err := template.Must(t.Clone()).New("tpl").Parse(text)
		if err != nil {
			return "", err
		}
		var out strings.Builder
		err = inner.Execute(&out, data)
		return out.String(), err
	}
	all["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	all["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	all["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	all["fromYaml"] = func(text string) (values, error) {
		out := values{}
		err := yaml.Unmarshal([]byte(text), &out)
		return out, err
	}
	return all
}

func render(chart, namespace string, about, told values) (map[string]string, error) {
	t := template.New("chart").Option("missingkey=zero")
	t.Funcs(functions(t))
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	check(err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		check(err)
		if _, err := t.New("templates/" + filepath.Base(path)).Parse(string(text)); err != nil {
			return nil, err
		}
	}
	out := map[string]string{}
	for _, path := range paths {
		name := "templates/" + filepath.Base(path)
		if strings.HasPrefix(filepath.Base(path), "_") {
			continue
		}
		var text strings.Builder
		err := t.ExecuteTemplate(&text, name, values{
			"Values": told, "Files": files(chart),
			"Chart":    values{"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]},
			"Release":  values{"Name": "tunegate", "Namespace": namespace, "Revision": 1, "Service": "Helm"},
			"Template": values{"Name": name},
		})
		if err != nil {
			return nil, err
		}
		out[name] = strings.ReplaceAll(text.String(), "<no value>", "") // Helm does so, too
	}
	return out, nil
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	chart, namespace := os.Args[1], os.Args[2]
	about, defaults := read(filepath.Join(chart, "Chart.yaml")), read(filepath.Join(chart, "values.yaml"))
	all := values{}
	for _, path := range os.Args[3:] {
		if texts, err := render(chart, namespace, about, laid(defaults, read(path))); err != nil {
			all[path] = err.Error()
		} else {
			all[path] = texts
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(all))
}
